"""Robustness reports: asked for, listed, read, shown as a page, cancelled, deleted."""

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from gauntlet.report.page import render
from gauntlet.report.schema import Report, ReportRequest
from service.auth.admission import visible_owner
from service.content_policy import SELF_CONTAINED
from service.endpoints.services import ApiServices, services
from service.errors import Code, ServiceError
from service.jobs.job import Job
from service.jobs.queue import unknown_report
from service.jobs.status import ENDED
from service.request_context import CALL, Scope
from service.responses import json_response
from service.schemas.main_calls import ReportItem, ReportList, ReportQuery
from service.schemas.reading import read_json, read_query


async def submit_report_endpoint(request: Request) -> Response:
    return await submit_report(services(request), read_json(ReportRequest, await request.body()))


async def submit_report(api: ApiServices, request: ReportRequest) -> Response:  # noqa: ARG001  valid, or it were not here
    """The compute process knows whether the models and attacks fit, and queues it."""
    return await api.compute.forward()


def report_item(job: Job) -> ReportItem:
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
    query = read_query(ReportQuery, request.query_params)
    owner = visible_owner(CALL.get())
    jobs, cursor = services(request).jobs.page(query.status, query.limit, query.cursor, owner)
    return json_response(ReportList(items=[report_item(job) for job in jobs], next_cursor=cursor))


def _job(request: Request, *, output: bool = False) -> Job:
    """The job of the path, if the key may know of it. Whoever needs the scope admin for that is noted."""
    job_id, call = request.path_params["id"], CALL.get()
    job = services(request).jobs.get(job_id, output=output)
    if visible_owner(call) not in (None, job.owner):
        raise unknown_report(job_id)
    if call.caller is not None and job.owner != call.caller.name:
        call.notes.audit = Scope.ADMIN
    return job


def get_report(request: Request) -> Response:
    job = _job(request, output=True)
    report = job.output["report"] if job.output else None
    return JSONResponse({**report_item(job).model_dump(mode="json"), "report": report})


def get_report_page(request: Request) -> Response:
    """Rendered when it is asked for."""
    job = _job(request, output=True)
    if job.output is None:
        hope = "it has none" if job.status in ENDED else "ask again later"
        raise ServiceError(Code.REPORT_NOT_READY, f"the report is {job.status}: {hope}", status=job.status)
    try:
        report = Report.model_validate(job.output["report"])
    except ValidationError as error:
        message = "an older release wrote the report, so that no page can be made of it: its JSON is as it was written"
        raise ServiceError(Code.REPORT_OUTDATED, message) from error
    return HTMLResponse(render(report), headers={"Content-Security-Policy": SELF_CONTAINED})


def cancel_report(request: Request) -> Response:
    return json_response(report_item(services(request).jobs.cancel(_job(request).id)), status=202)


def delete_report(request: Request) -> Response:
    services(request).jobs.delete(_job(request).id)
    return Response(status_code=204)
