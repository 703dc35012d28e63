"""The version of Gauntlet: the one place that says it. Both distributions and every export read it here."""

__version__ = "0.1.0"
