"""The version of Gauntlet, defined only here. Both distributions and every export read it."""

__version__ = "0.1.0"
