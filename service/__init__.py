"""The HTTP service: BentoML answers, ``service.worker`` computes reports, and they meet only in the job database."""

import os

import gauntlet  # noqa: F401  before torch

os.environ["BENTOML_DO_NOT_TRACK"] = "True"  # otherwise BentoML reports how it is used
