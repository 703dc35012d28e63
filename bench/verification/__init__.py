"""Generates and decides verification properties of the kinds used in the verification competition of 2021."""
