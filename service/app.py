"""The application of the API processes: all routes, and the layers around them. Free of BentoML and of torch."""

import gc
import threading
from contextlib import nullcontext

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route

from gauntlet.runtime.session import THREAD_POOL
from service.auth.keys import Keyring
from service.endpoint import Endpoint
from service.endpoints.compute_client import ComputeClient
from service.endpoints.readiness import unready
from service.endpoints.routes import ENDPOINTS
from service.endpoints.services import ApiServices
from service.jobs.queue import Jobs
from service.jobs.queue_metrics import JobMetrics
from service.middleware.drain import Drain
from service.middleware.request_gate import RequestGate
from service.middleware.security_headers import SecurityHeaders, cors
from service.middleware.slow_refusals import SlowRefusals
from service.middleware.trusted_proxies import trusted_proxies
from service.model_catalog import Catalog
from service.observability import metrics
from service.predictions.classify_requests import ClassifyRequests
from service.predictions.served_models import ServedModels
from service.responses import ERROR_HANDLERS
from service.scheduling.batching import Batcher
from service.scheduling.bounded_queue import PREDICTION_SLOTS, BoundedQueue
from service.settings import Settings
from service.sql import ANSWER_S
from service.uploads.evalset_previews import EvalSetPreviews
from service.uploads.evalsets import EvaluationSets
from service.uploads.manifests import UploadedManifests
from service.uploads.records import UploadRecords

LAYERS = (trusted_proxies, SecurityHeaders, cors, SlowRefusals, RequestGate, Drain)
"""Around the routes, the outermost first."""


def open_services(settings: Settings, compute: ComputeClient) -> ApiServices:
    """What the endpoints work with. A thread looks which models can be answered: some may still have to be proved."""
    if settings.threads:
        THREAD_POOL.resize(settings.threads)
    for endpoint in ENDPOINTS:  # a rate cannot tell the first 500 from a series that is merely new
        metrics.REQUESTS.labels(endpoint.path, endpoint.method, "500")
    storage = UploadRecords.of(settings, ANSWER_S)
    catalog, jobs = Catalog(settings, UploadedManifests(storage)), Jobs(settings.database_url, ANSWER_S)
    models = ServedModels(settings, catalog)
    waiting = settings.share(settings.predict_queue)
    predictions = BoundedQueue(PREDICTION_SLOTS, waiting, "predictions")
    classify = classify_requests(models, settings)
    threading.Thread(target=models.watch, args=(lambda: _settle(jobs),), name="models", daemon=True).start()
    return ApiServices(
        settings=settings,
        keys_in_use=Keyring.of(settings) is not None,
        catalog=catalog,
        models=models,
        predictions=predictions,
        generations=BoundedQueue(1, waiting, "generations"),
        classify=classify,
        batcher=Batcher(predictions, classify.answer_together, prompt=True),
        evalsets=EvalSetPreviews(EvaluationSets(settings.evalsets, storage)),
        openings=storage.openings,
        jobs=jobs,
        compute=compute,
        metrics=metrics.exposed(JobMetrics(jobs.backlog, jobs.workers, settings.state), catalog.known),
        unready=lambda: unready(models, compute, jobs),
    )


def classify_requests(models: ServedModels, settings: Settings) -> ClassifyRequests:
    """Of models that stay open."""
    return ClassifyRequests(lambda name: nullcontext(models.classifier(name)), settings.max_images)


def _settle(jobs: Jobs) -> None:
    """Once models are answered: load what reports need, and let the collector pass over what stays.

    It would look again and again, for 0.1 s each time.
    """
    _ = jobs.database.client
    gc.collect()
    gc.freeze()


def routes() -> Starlette:
    """All endpoints, without the layers. ``app.state.services`` is to be set before the first request."""
    app = Starlette(routes=[_route(endpoint) for endpoint in ENDPOINTS], exception_handlers=ERROR_HANDLERS)
    app.state.endpoints = ENDPOINTS
    return app


def _route(endpoint: Endpoint) -> Route:
    layers = [Middleware(GZipMiddleware)] if endpoint.compressed else None
    return Route(endpoint.path, endpoint.handler, methods=[endpoint.method], middleware=layers)
