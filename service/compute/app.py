"""The application of the compute process. It answers the API processes alone, over a socket of their own."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import anyio.to_thread
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gauntlet.attacks import ATTACKS
from gauntlet.report.schema import ReportRequest
from gauntlet.runtime import memory
from gauntlet.runtime.classifier import use_threads
from gauntlet.sandbox.fork_server import ForkServer, Limits
from service.auth.admission import owner, requester, visible_owner
from service.compute.attack_request import attack
from service.compute.certify_request import certify
from service.compute.internal_call import InternalCalls
from service.compute.models import ComputeModels
from service.compute.prediction_model import prediction_model
from service.compute.report_request import ReportRequests
from service.compute.smoothed_classification import classify_smoothed
from service.compute.uploads import Uploads, upload_routes
from service.errors import ServiceError
from service.inference_protocol.http import infer_call, infer_response
from service.inference_protocol.inference import InferAnswer, infer
from service.jobs.queue import Jobs
from service.observability.logs import LOGGER
from service.predictions.classify_requests import ClassifyRequests
from service.request_context import CALL
from service.responses import ERROR_HANDLERS, json_response
from service.scheduling.batching import SMALL, Batcher
from service.scheduling.bounded_queue import PREDICTION_SLOTS, BoundedQueue
from service.schemas.certify import CertifyRequest
from service.schemas.main_calls import (
    AttackInfo,
    AttackList,
    AttackRequest,
    ClassifyRequest,
    ClassifyResponse,
    ReportAccepted,
)
from service.schemas.reading import read_json
from service.settings import Settings
from service.sql import ANSWER_S
from service.startup import tell_failure
from service.uploads.evalsets import EvaluationSets
from service.uploads.records import UploadRecords

FEWER_SAMPLES = "send fewer images or samples"
FEWER_SECONDS = "ask for fewer seconds"
FEWER_STEPS = "send fewer images or steps, or ask POST /robustness-report"


@dataclass(frozen=True)
class ComputeServices:
    """What the handlers work with."""

    settings: Settings
    models: ComputeModels
    predictions: BoundedQueue  # of uploaded models
    costly: BoundedQueue  # attacks and certificates of smoothed classifiers
    classify: ClassifyRequests
    batcher: Batcher[ClassifyRequest, ClassifyResponse]
    reports: ReportRequests


def open_compute(settings: Settings) -> ASGIApp:
    """The whole application. Raises GauntletError where it cannot be."""
    use_threads(settings.threads)
    memory.keep()
    storage = UploadRecords.of(settings, ANSWER_S)
    sandbox = ForkServer(Limits(settings.upload_memory, settings.threads, settings.sandbox_required))
    models, jobs = ComputeModels(settings, storage, sandbox), Jobs(settings.database_url, ANSWER_S)
    evalsets = EvaluationSets(settings.evalsets, storage)
    predictions = BoundedQueue(PREDICTION_SLOTS, settings.predict_queue, "predictions of uploaded models")
    classify = ClassifyRequests(lambda name: prediction_model(models, name), settings.max_images)
    services = ComputeServices(
        settings=settings,
        models=models,
        predictions=predictions,
        costly=BoundedQueue(settings.attack_slots, settings.attack_queue, "attacks and certificates"),
        classify=classify,
        batcher=Batcher(predictions, lambda _, asked: classify.answer_together(asked[0].model, asked)),
        reports=ReportRequests(models, evalsets, jobs),
    )
    threading.Thread(target=_settle_uploads, args=(storage, settings.opener), daemon=True).start()
    threading.Thread(target=_prove, args=(models,), name="prover", daemon=True).start()
    routes = [*ROUTES, *upload_routes(Uploads(models, storage, evalsets, sandbox, jobs))]
    app = Starlette(routes=routes, exception_handlers=ERROR_HANDLERS)
    app.state.services = services
    return InternalCalls(app)


def _settle_uploads(storage: UploadRecords, opener: str) -> None:
    """End what the process before this one was at when it was killed, and move what an earlier release kept."""
    try:
        storage.openings.end_all(opener)
        storage.move_bytes()
    except ServiceError as error:  # openings end after two hours; bytes are moved at the next start
        LOGGER.warning("uploads of before this start are as they were: %s", error)


def _prove(models: ComputeModels) -> None:
    """What cannot be served ends the service."""
    try:
        models.prove_all()
    except Exception as error:  # whatever it is, API processes would wait for ever
        tell_failure(models.settings, error)


def _services(request: Request) -> ComputeServices:
    services: ComputeServices = request.app.state.services
    return services


async def post_classify(request: Request) -> Response:
    services = _services(request)
    asked = read_json(ClassifyRequest, await request.body())
    smoothing = asked.smoothing
    if smoothing is not None:
        return await _costly(
            services, lambda check: classify_smoothed(services.models, asked, smoothing, check), FEWER_SAMPLES
        )
    if len(asked.images) <= SMALL and not asked.resize:
        # A batch is computed in the context of its first call: all of it sees the same uploads.
        batch = f"{visible_owner(CALL.get())} {asked.model}"
        return json_response(await services.batcher.run(batch, asked))
    return json_response(await services.predictions.run(lambda: services.classify.answer(asked)))


async def post_attack(request: Request) -> Response:
    services = _services(request)
    asked = read_json(AttackRequest, await request.body())
    return await _costly(services, lambda check: attack(services.models, asked, check), FEWER_STEPS)


async def post_certify(request: Request) -> Response:
    services = _services(request)
    asked = read_json(CertifyRequest, await request.body())
    return await _costly(services, lambda check: certify(services.models, asked, check), FEWER_SECONDS)


async def _costly(
    services: ComputeServices, compute: Callable[[Callable[[], None]], BaseModel], advice: str
) -> Response:
    """The answer of what takes long, within its deadline; ``advice`` is for whom it ends."""
    deadline = services.settings.attack_deadline
    return json_response(await services.costly.run_with_deadline(compute, deadline, advice))


async def get_attacks(_: Request) -> Response:
    return json_response(
        AttackList(
            attacks=[
                AttackInfo(
                    name=name,
                    summary=entry.summary,
                    norms=sorted(entry.norms),
                    minimum_norm=entry.minimum_norm,
                    targeted=entry.targeted,
                    params=entry.params.model_json_schema(),
                )
                for name, entry in ATTACKS.items()
            ]
        )
    )


async def post_report(request: Request) -> Response:
    asked = read_json(ReportRequest, await request.body())
    return await anyio.to_thread.run_sync(
        lambda: _submit(_services(request), asked, request.headers.get("idempotency-key"))
    )


def _submit(services: ComputeServices, asked: ReportRequest, key: str | None) -> Response:
    call = CALL.get()
    whose, asks = owner(call, services.settings), requester(call, services.settings)
    job, new = services.reports.submit(asked, key, whose, asks)
    accepted = ReportAccepted(id=job.id, status=job.status, status_url=job.status_url, report_url=job.report_url)
    return json_response(accepted, 202 if new else 200, job.status_url)


async def post_infer(request: Request) -> Response:
    services, name = _services(request), request.path_params["name"]
    call = infer_call(request, await request.body(), services.settings)

    def work() -> InferAnswer:
        with prediction_model(services.models, name) as model:
            return infer(model, call)

    return infer_response(await services.predictions.run(work))


ROUTES = [
    Route("/classify", post_classify, methods=["POST"]),
    Route("/attack", post_attack, methods=["POST"]),
    Route("/certify", post_certify, methods=["POST"]),
    Route("/attacks", get_attacks),
    Route("/robustness-report", post_report, methods=["POST"]),
    Route("/v2/models/{name}/infer", post_infer, methods=["POST"]),
    Route("/v2/models/{name}/versions/{version}/infer", post_infer, methods=["POST"]),
]
