# mypy: disable-error-code="untyped-decorator"
"""What BentoML serves: ``Gauntlet`` in several processes that answer, ``Compute`` in one that computes for them.

The application itself is in service.app and service.compute.app. Here are the calls that BentoML's own client knows.
"""

import gc
import os
from typing import Any

import bentoml
import httpx
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gauntlet.process_priority import lower_priority
from gauntlet.report.schema import ReportRequest
from service import app, bento_tuning, supervisor
from service.connections import use_limited_connections
from service.endpoints import attacks, generation, health, pictures, predictions, reports
from service.endpoints.compute_client import ComputeClient
from service.exit_with_parent import PARENT, exit_with_parent
from service.middleware.drain import drain_on_sigterm
from service.monitoring_port import open_metrics_port
from service.observability.exposition import count_together
from service.observability.logs import configure
from service.private_files import keep_private
from service.process_lock import ServiceLocks
from service.process_starter import ProcessStarter
from service.schemas.certify import CertifyRequest, CertifyResponse
from service.schemas.main_calls import (
    AttackRequest,
    AttackResponse,
    ClassifyRequest,
    ClassifyResponse,
    GenerateRequest,
    GenerateResponse,
    PicturesRequest,
    PicturesResponse,
    ReportAccepted,
)
from service.settings import Settings
from service.startup import or_end_service

QUIET = {
    "tracing": bento_tuning.tracing(),
    "metrics": {"enabled": False},  # BentoML labels with the raw path: ours are in service.observability.metrics
    "logging": {"access": {"enabled": False}},  # service.middleware.request_gate logs
}

NICE = 5  # the processes that answer go first


use_limited_connections()  # uvicorn makes its protocol before a service begins


def begin() -> tuple[Settings, ServiceLocks]:
    """In each process of either service, before it opens anything."""
    exit_with_parent(int(os.environ[PARENT]))
    settings = Settings.load()
    keep_private(settings.state, settings.database_url)
    configure(settings.log_format)
    count_together(settings.metrics_folder)
    return settings, ServiceLocks(bento_tuning.socket_of(bento_tuning.COMPUTE))


class ComputeApp:
    """Where the compute process mounts its application once it is there."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    app: Any = None


COMPUTE_APP, API_APP = ComputeApp(), app.routes()


@bentoml.service(name=bento_tuning.COMPUTE, workers=1, **QUIET)
@bentoml.asgi_app(COMPUTE_APP, path="/")
class Compute:
    """Attacks, smoothing and uploaded models, for the processes of the service ``gauntlet`` alone."""

    def __init__(self) -> None:
        from service.compute.app import open_compute  # noqa: PLC0415  the processes that answer do without torch
        from service.compute.drain import drain_after  # noqa: PLC0415

        lower_priority(NICE)
        settings, locks = begin()
        drain_after(locks.api, settings.drain_s)
        COMPUTE_APP.app = or_end_service(settings, lambda: open_compute(settings))
        bento_tuning.settle(self)
        locks.compute.hold()


@bentoml.service(name="gauntlet", workers=bento_tuning.api_processes(), **QUIET)
@bentoml.asgi_app(API_APP, path="/")
class Gauntlet:
    """Image models served together with their robustness."""

    compute = bentoml.depends(Compute)

    def __init__(self) -> None:
        settings, locks = begin()
        drain_on_sigterm(settings.drain_s, locks.listening)
        locks.api.share()
        transport = httpx.AsyncHTTPTransport(uds=str(locks.socket), limits=httpx.Limits(max_keepalive_connections=0))
        client = ComputeClient(transport, locks.compute.held)
        self.compute = None  # what BentoML would make of it, decodes and encodes again
        self.services = or_end_service(settings, lambda: app.open_services(settings, client))
        API_APP.state.services = self.services
        or_end_service(settings, lambda: open_metrics_port(settings, self.services.metrics))
        bento_tuning.settle(self)

    @bentoml.on_deployment
    @staticmethod
    def prepare() -> None:
        """In BentoML's parent process, before it serves."""
        gc.freeze()  # what is imported stays; collecting it would copy the pages that all processes share
        gc.enable()  # ``python -m service`` has imported it without
        starter = ProcessStarter()
        bento_tuning.supervise_services(starter)
        supervisor.prepare(starter)

    def __is_ready__(self) -> bool:
        """Of BentoML's /readyz. Raises ``not_ready`` with the reasons."""
        health.check_ready(self.services)
        return True

    @bentoml.api(route="/classify")
    @bento_tuning.answers(ClassifyResponse)
    async def classify(self, request: ClassifyRequest, /) -> Response:
        return await predictions.classify(self.services, request)

    @bentoml.api(route="/pictures")
    @bento_tuning.answers(PicturesResponse)
    async def pictures(self, request: PicturesRequest, /) -> Response:
        return await pictures.pictures(self.services, request)

    @bentoml.api(route="/generate")
    @bento_tuning.answers(GenerateResponse)
    async def generate(self, request: GenerateRequest, /) -> Response:
        return await generation.generate(self.services, request)

    @bentoml.api(route="/attack")
    @bento_tuning.answers(AttackResponse)
    async def attack(self, request: AttackRequest, /) -> Response:
        return await attacks.attack(self.services, request)

    @bentoml.api(route="/certify")
    @bento_tuning.answers(CertifyResponse)
    async def certify(self, request: CertifyRequest, /) -> Response:
        return await attacks.certify(self.services, request)

    @bentoml.api(route="/robustness-report")
    @bento_tuning.answers(ReportAccepted)
    async def robustness_report(self, request: ReportRequest, /) -> Response:
        return await reports.submit_report(self.services, request)


for layer in app.LAYERS:
    Gauntlet.add_asgi_middleware(layer)  # type: ignore[attr-defined]  # the decorator made a bentoml.Service of it
