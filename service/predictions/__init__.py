"""Classifying and generating with models that are already open: numpy in, numpy out, no torch."""
