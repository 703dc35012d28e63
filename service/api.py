# mypy: disable-error-code="untyped-decorator"
"""The BentoML service: the four main calls, thin. It validates, delegates to the engine or the jobs, and encodes."""

import functools
import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio.to_thread
import bentoml
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from gauntlet.errors import GauntletError
from gauntlet.report.schema import ReportRequest
from service import drain, framework, parent
from service.access import scopes
from service.access.keys import Keyring
from service.errors import CALL, Code, ServiceError, respond, translate
from service.http.batches import Batches
from service.http.border import Border
from service.http.headers import SecurityHeaders, cors
from service.http.lanes import Lane
from service.http.schemas import (
    AttackRequest,
    AttackResponse,
    ClassifyRequest,
    ClassifyResponse,
    GenerateRequest,
    GenerateResponse,
    ReportAccepted,
)
from service.http.web import WEB
from service.jobs.job import Job
from service.jobs.queue import Jobs
from service.lifeline import end_with
from service.settings import Settings
from service.watch import metrics
from service.watch.logs import LOGGER, configure

SMALL = 8  # images of a request that shares its run of the model with others; more are a batch of their own
A = TypeVar("A")
B = TypeVar("B")

SLOTS = 4  # predictions that compute at the same time; each uses all cores


def answers(method: Callable[[Any, A], Awaitable[B]]) -> Callable[[Any, A], Awaitable[B]]:
    """An answer becomes its bytes here, an error its envelope: BentoML would validate again, and make a 500 of it."""

    @functools.wraps(method)
    async def wrapper(self: Any, request: A, /) -> Any:
        try:
            return _json(await method(self, request))
        except Exception as error:
            if translate(error).code is Code.INTERNAL:
                LOGGER.exception("request %s failed", CALL.get().request_id)
            return respond(error)

    return wrapper


def _json(answer: Any) -> Response:
    return answer if isinstance(answer, Response) else Response(answer.model_dump_json(), media_type="application/json")


def quiet(record: logging.LogRecord) -> bool:
    """BentoML logs a traceback for what a client did wrong, and we answer that."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (ValidationError, ServiceError))


logging.getLogger("bentoml._internal.server.http_app").addFilter(quiet)


@bentoml.service(
    name="gauntlet",
    workers=1,  # one copy of the models; the metrics and the attack slots count on it
    tracing=framework.tracing(),
    metrics={"enabled": False},  # BentoML labels with the raw path: ours are in service.watch.metrics
    logging={"access": {"enabled": False}},  # service.http.border logs
)
@bentoml.asgi_app(WEB, path="/")
class Gauntlet:
    """Image models served together with their robustness."""

    def __init__(self) -> None:
        end_with(os.getppid())
        self.settings = Settings.load()
        drain.on_sigterm(self.settings.drain_s)
        configure(self.settings.log_format)
        self.keyed = Keyring.of(self.settings) is not None
        self.jobs = Jobs(self.settings.database_url)
        self.engine = self._open()
        metrics.REGISTRY.register(metrics.Jobs(self.jobs.backlog, self.jobs.workers, self.settings.state))
        self._fast = Lane(SLOTS, self.settings.predict_queue, "predictions")
        self._brought = Lane(SLOTS, self.settings.predict_queue, "predictions of uploaded models")
        self._together = Batches(self.lane, self.engine.classify_together, self.engine.models.__contains__)
        self._slow = Lane(self.settings.attack_slots, self.settings.attack_queue, "attacks and certificates")
        WEB.state.service = self
        framework.settle(self)

    def _open(self) -> Any:
        """The engine. A failure ends the whole service: BentoML would try again for ever while clients hang."""
        from service.models.engine import Engine  # noqa: PLC0415  BentoML's parent does without torch

        try:
            return Engine(self.settings)
        except Exception as error:
            reason = str(error) if isinstance(error, GauntletError) else repr(error)
            parent.failure_file(self.settings).write_text(reason)
            time.sleep(60)  # the parent ends us
            raise

    @bentoml.on_deployment
    @staticmethod
    def prepare() -> None:
        """In BentoML's parent process, before it serves."""
        parent.prepare()

    def lane(self, model: str) -> Lane:
        """Where it predicts: what users brought may be slow, and does not keep the others waiting."""
        return self._fast if model in self.engine.models else self._brought

    def __is_ready__(self) -> bool:
        """Raises ``not_ready`` with the reasons. /classify, /generate and /attack work all the same."""
        reasons: dict[str, str] = {}
        try:
            if self.jobs.workers() == 0:
                reasons["worker"] = "no worker is alive: reports wait"
        except ServiceError as error:
            reasons["jobs"] = str(error)
        if reasons:
            raise ServiceError(Code.NOT_READY, "; ".join(reasons.values()), components=reasons)
        return True

    @bentoml.api(route="/classify")
    @answers
    async def classify(self, request: ClassifyRequest, /) -> ClassifyResponse:
        asked = request.smoothing
        if asked is None:
            if len(request.images) <= SMALL:
                return await self._together.run(request.model, request)
            return await self.lane(request.model).run(lambda: self.engine.classify(request))
        from service.models import smoothed  # noqa: PLC0415  BentoML's parent does without torch

        CALL.get().label = "/classify smoothed"  # thousands of passes: no classification is slow because of them
        advice = "send fewer images or samples"
        return await self._slow.run_at_length(
            lambda stop: smoothed.classify(self.engine, request, asked, stop), self.settings.attack_deadline, advice
        )

    @bentoml.api(route="/generate")
    @answers
    async def generate(self, request: GenerateRequest, /) -> GenerateResponse:
        return await self.lane(request.model).run(lambda: self.engine.generate(request))

    @bentoml.api(route="/attack")
    @answers
    async def attack(self, request: AttackRequest, /) -> AttackResponse:
        from service.models import attacking  # noqa: PLC0415  BentoML's parent does without torch

        advice = "send fewer images or steps, or ask POST /robustness-report"
        return await self._slow.run_at_length(
            lambda stop: attacking.attack(self.engine, request, stop), self.settings.attack_deadline, advice
        )

    @bentoml.api(route="/robustness-report")
    @answers
    async def robustness_report(self, request: ReportRequest, /) -> ReportAccepted:
        key = CALL.get().headers.get("idempotency-key")
        job, new = await anyio.to_thread.run_sync(lambda: self._submit(request, key))
        accepted = ReportAccepted(id=job.id, status=job.status, status_url=job.status_url, report_url=job.report_url)
        return JSONResponse(  # type: ignore[return-value]  # BentoML passes a response on as it is
            accepted.model_dump(mode="json"), status_code=202 if new else 200, headers={"Location": job.status_url}
        )

    def _submit(self, request: ReportRequest, key: str | None) -> tuple[Job, bool]:
        from service.jobs.reports import check  # noqa: PLC0415  BentoML's parent does without torch

        pins = check(self.engine, request)
        owner = scopes.owner(CALL.get(), self.settings)
        return self.jobs.submit(request.model_dump(mode="json"), pins, key, self.settings.report_queue, owner)


for layer in (SecurityHeaders, cors, Border, drain.Drain):  # the outermost first
    Gauntlet.add_asgi_middleware(layer)  # type: ignore[attr-defined]  # the decorator made a bentoml.Service of it
