"""Verification: attacks first, then bounds. ``images`` verifies single images, ``properties`` VNN-LIB files."""
