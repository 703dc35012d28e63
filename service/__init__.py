"""The HTTP service: BentoML answers, ``service.worker`` computes reports, and they meet only in the job database."""

import gauntlet  # noqa: F401  before torch
