"""What does not answer at this moment, and why: the components that /readyz names."""

from service.endpoints.compute_client import ComputeClient
from service.errors import ServiceError
from service.jobs.queue import Jobs
from service.predictions.served_models import ServedModels

SHOWN = 3  # names of models


def unready(models: ServedModels, compute: ComputeClient, jobs: Jobs) -> dict[str, str]:
    """By component: ``predictions``, ``compute``, ``worker``, ``jobs``. Empty: everything answers."""
    reasons: dict[str, str] = {}
    if names := models.not_ready():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        reasons["predictions"] = f"certificates are being proved: {', '.join(names[:SHOWN])}{more}"
    if not compute.alive():
        reasons["compute"] = "the process that computes attacks and smoothing is starting"
    try:
        if jobs.workers() == 0:
            reasons["worker"] = "no worker is alive: reports wait"
    except ServiceError as error:
        reasons["jobs"] = str(error)
    return reasons
