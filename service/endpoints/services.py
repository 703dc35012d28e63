"""What the endpoints of an API process work with."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from service.endpoints.compute_client import ComputeClient
from service.jobs.queue import Jobs
from service.model_catalog import Catalog
from service.observability.exposition import CollectorRegistry
from service.predictions.classify_requests import ClassifyRequests
from service.predictions.served_models import ServedModels
from service.scheduling.batching import Batcher
from service.scheduling.bounded_queue import BoundedQueue
from service.schemas.main_calls import ClassifyRequest, ClassifyResponse
from service.settings import Settings
from service.uploads.evalset_previews import EvalSetPreviews
from service.uploads.openings import Openings


@dataclass(frozen=True)
class ApiServices:
    """Of one process."""

    settings: Settings
    keys_in_use: bool
    catalog: Catalog
    models: ServedModels
    predictions: BoundedQueue
    generations: BoundedQueue  # apart: one takes as long as hundreds of predictions
    classify: ClassifyRequests
    batcher: Batcher[ClassifyRequest, ClassifyResponse]
    evalsets: EvalSetPreviews
    openings: Openings
    jobs: Jobs
    compute: ComputeClient
    metrics: CollectorRegistry
    unready: Callable[[], dict[str, str]]  # what does not answer at this moment, and why


def services(request: Request) -> ApiServices:
    """Of the process that answers this request."""
    found: ApiServices = request.app.state.services
    return found
