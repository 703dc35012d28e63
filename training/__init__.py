"""Offline training: data set to frozen network to a verified artefact folder. Never imported by the service."""

import gauntlet  # noqa: F401  before torch
