"""Benchmarks and measurements: each module prints figures for docs/ and the README."""

import gauntlet  # noqa: F401  before torch
