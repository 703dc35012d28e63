"""The routes that are not BentoML's: reports read, cancelled and deleted, models, attacks, and what describes us."""

from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from gauntlet.errors import GauntletError
from service.access import scopes
from service.errors import CALL, Code, ServiceError, invalid, respond, translate
from service.http import openapi
from service.http.headers import SELF_CONTAINED
from service.http.page import PAGE
from service.http.schemas import AttackInfo, AttackList, ModelList, ReportItem, ReportList, ReportQuery
from service.http.uploads import UPLOADS
from service.jobs.job import Job
from service.jobs.queue import unknown_report
from service.jobs.status import ENDED
from service.v2.web import V2
from service.watch import metrics
from service.watch.exposition import CONTENT_TYPE_LATEST, generate_latest
from service.watch.logs import LOGGER

if TYPE_CHECKING:
    from service.api import Gauntlet


def _service(request: Request) -> "Gauntlet":
    service: Gauntlet = request.app.state.service
    return service


def item(job: Job) -> ReportItem:
    """A job as the API tells it."""
    return ReportItem(
        id=job.id,
        models=job.request["models"],
        dataset=job.request["dataset"],
        n=job.request["n"],
        status=job.status,
        progress=job.progress,
        eta_seconds=job.eta_seconds,
        created_at=job.created_at,
        error=job.error,
        sound=job.sound,
        status_url=job.status_url,
        report_url=job.report_url,
    )


def list_reports(request: Request) -> Response:
    try:
        query = ReportQuery.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False)) from error
    jobs, cursor = _service(request).jobs.page(query.status, query.limit, query.cursor, scopes.sees(CALL.get()))
    return _json(ReportList(items=[item(job) for job in jobs], next_cursor=cursor))


def _job(request: Request, *, output: bool = False) -> Job:
    """The job of the path, if the key may know of it. Whoever needs the scope admin for that is noted."""
    job_id, call = request.path_params["id"], CALL.get()
    job = _service(request).jobs.get(job_id, output=output)
    if scopes.sees(call) not in (None, job.owner):
        raise unknown_report(job_id)
    if call.key is not None and job.owner != call.key.name:
        call.admin = True
    return job


def get_report(request: Request) -> Response:
    job = _job(request, output=True)
    report = job.output["report"] if job.output else None
    return JSONResponse({**item(job).model_dump(mode="json"), "report": report})


def get_report_page(request: Request) -> Response:
    job = _job(request, output=True)
    if job.output is None:
        hope = "it has none" if job.status in ENDED else "ask again later"
        raise ServiceError(Code.REPORT_NOT_READY, f"the report is {job.status}: {hope}", status=job.status)
    return HTMLResponse(job.output["page"], headers={"Content-Security-Policy": SELF_CONTAINED})


def cancel_report(request: Request) -> Response:
    return _json(item(_service(request).jobs.cancel(_job(request).id)), status=202)


def delete_report(request: Request) -> Response:
    _service(request).jobs.delete(_job(request).id)
    return Response(status_code=204)


def list_models(request: Request) -> Response:
    return _json(ModelList(models=_service(request).engine.manifests()))


def get_model(request: Request) -> Response:
    return _json(_service(request).engine.manifest(request.path_params["name"], "name"))


def list_attacks(_: Request) -> Response:
    from gauntlet.attacks import ATTACKS  # noqa: PLC0415  BentoML's parent imports this module and does without torch

    return _json(
        AttackList(
            attacks=[
                AttackInfo(
                    name=name,
                    summary=attack.summary,
                    norms=sorted(attack.norms),
                    minimum_norm=attack.minimum_norm,
                    targeted=attack.targeted,
                    params=attack.params.model_json_schema(),
                )
                for name, attack in ATTACKS.items()
            ]
        )
    )


def get_metrics(_: Request) -> Response:
    return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)


def get_openapi(request: Request) -> Response:
    return JSONResponse(openapi.document(_service(request).keyed))


def _json(model: BaseModel, status: int = 200) -> Response:
    return Response(model.model_dump_json(), status_code=status, media_type="application/json")


def _error(_: Request, error: Exception) -> Response:
    if translate(error).code is Code.INTERNAL:
        LOGGER.error("request %s failed", CALL.get().request_id, exc_info=error)
    return respond(error)


REPORT = "/robustness-report"
WEB = Starlette(
    routes=[
        *PAGE,
        Route(REPORT, list_reports),
        Route(f"{REPORT}/{{id}}", get_report),
        Route(f"{REPORT}/{{id}}", delete_report, methods=["DELETE"]),
        Route(f"{REPORT}/{{id}}/html", get_report_page),
        Route(f"{REPORT}/{{id}}/cancel", cancel_report, methods=["POST"]),
        Route("/models", list_models),
        Route("/models/{name}", get_model),
        *UPLOADS,
        *V2,
        Route("/attacks", list_attacks),
        Route("/metrics", get_metrics),
        Route("/openapi.json", get_openapi),
    ],
    exception_handlers={ServiceError: _error, GauntletError: _error},
)
