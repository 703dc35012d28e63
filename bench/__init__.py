"""What is measured: each module prints figures of docs/ and the README."""

import gauntlet  # noqa: F401  before torch
