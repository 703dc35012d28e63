"""The HTTP service: API processes and a compute process under BentoML, and workers (``service.worker``) for reports.

The workers share only the job database and the state folder (proofs, lock files) with the others.
"""

import os

import gauntlet  # noqa: F401  before torch

os.environ["BENTOML_DO_NOT_TRACK"] = "True"  # otherwise BentoML reports how it is used
