"""Verdicts: attacks first, then bounds. ``images`` for one image each, ``properties`` for VNN-LIB files."""
