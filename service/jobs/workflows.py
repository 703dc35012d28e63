"""The durable work: a report's workflow cuts it into shards, which any worker computes, and assembles the report.

A shard that is done is never computed again: after a kill the next worker goes on behind it. There is no other way to
stop a worker than to end it, so that what survives a kill is what is always used.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from dbos import DBOS
from dbos import error as dbos_error

from gauntlet.errors import Cancelled, GauntletError
from gauntlet.report.schema import CellResult, ReportRequest
from service.errors import ServiceError
from service.jobs.progress import begin, follow, wait_for_database
from service.jobs.queue import SHARD, SHARDS, WORKFLOW, Jobs
from service.observability.worker_metrics import LIVENESS, REPORTS, count
from service.settings import Settings

if TYPE_CHECKING:
    from gauntlet.report.shards import Shard
    from service.jobs.report_inputs import ReportInputs

logger = logging.getLogger("gauntlet.worker")

LOOK = 0.5  # seconds between two looks at the job database: is the report still wanted, how far is it
LIVES = 10  # workers that one shard may kill before the report counts as failed
RESTARTS = 100  # workers that may end while they have a report: most were only stopped
AHEAD = 2  # shards that a worker takes at once: the next is at hand when one is done

COMPUTING = threading.Lock()
"""Only one thing is computed at a time: each uses all the threads that it may."""


@cache
def settings() -> Settings:
    return Settings.load()


@cache
def jobs() -> Jobs:
    return Jobs(settings().database_url)


@cache
def _inputs() -> "ReportInputs":
    from service.jobs.report_inputs import ReportInputs  # noqa: PLC0415  an idle worker does without torch

    return ReportInputs(settings())


@DBOS.workflow(name=WORKFLOW, max_recovery_attempts=RESTARTS)
def robustness_report(body: Mapping[str, Any], pins: Mapping[str, str]) -> dict[str, Any]:
    """One report. Its steps are the shards, in order."""
    job_id = str(DBOS.workflow_id)
    try:
        report = _report(job_id, body, pins)
    except Cancelled:
        REPORTS.labels("cancelled").inc()
        wait_for_database(lambda: jobs().confirm_cancelled(job_id))
        raise
    except Exception as error:
        REPORTS.labels("failed").inc()
        raise _explained(job_id, error) from error
    REPORTS.labels("succeeded").inc()
    return report


def _report(job_id: str, body: Mapping[str, Any], pins: Mapping[str, str]) -> dict[str, Any]:
    from gauntlet.report import build  # noqa: PLC0415  an idle worker does without torch

    progress = begin(jobs(), job_id)
    left_out: list[str] = []
    if body.get("budget_seconds") is not None:
        body, left_out = planned_report(body, pins)
    request = ReportRequest.model_validate(body)
    shards = build.shards(request)
    ids = [
        DBOS.enqueue_workflow(SHARDS, report_shard, job_id, body, pins, shard.model_dump(mode="json")).workflow_id
        for shard in shards
    ]
    follow(jobs(), job_id, {shard_id: shard.cost for shard_id, shard in zip(ids, shards, strict=True)}, progress)
    returned = wait_for_database(lambda: jobs().results(job_id))
    results = [CellResult.model_validate_json(returned[shard_id]) for shard_id in ids]
    with COMPUTING, LIVENESS.computing():
        with _inputs().open(request, pins) as (models, evalset):
            measured = build.assemble(request, build.join(results), models, evalset)
        report = measured.model_copy(update={"left_out": left_out})
        wait_for_database(lambda: jobs().set_attributes(job_id, sound=report.sound))
        return {"report": report.model_dump(mode="json")}


@DBOS.step(name="planned_report")
def planned_report(body: Mapping[str, Any], pins: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """What of a request its budget pays for, and what that leaves out.

    A step: its result is kept, so that a worker that takes the report over cuts it into the same shards.
    """
    from gauntlet.report import build  # noqa: PLC0415  an idle worker does without torch

    request = ReportRequest.model_validate(body)
    with COMPUTING, LIVENESS.computing(), _inputs().open(request, pins) as (models, evalset):
        plan = build.planned(request, models, evalset)
    return plan.request.model_dump(mode="json"), list(plan.left_out)


@DBOS.workflow(name=SHARD, max_recovery_attempts=LIVES)
def report_shard(job_id: str, body: Mapping[str, Any], pins: Mapping[str, str], part: Mapping[str, Any]) -> str | None:
    """One shard of a report: the JSON of its CellResult, or None where the report is no longer wanted."""
    shard_id = str(DBOS.workflow_id)
    with COMPUTING:
        try:
            return _measure(_ShardWatch(job_id, shard_id), body, pins, part)
        except Cancelled:
            return None
        except Exception as error:
            raise _explained(shard_id, error) from error


def _measure(watch: "_ShardWatch", body: Mapping[str, Any], pins: Mapping[str, str], part: Mapping[str, Any]) -> str:
    watch.check_cancelled()
    from gauntlet.report import build  # noqa: PLC0415  an idle worker does without torch
    from gauntlet.report.measure import CHUNK  # noqa: PLC0415

    with LIVENESS.computing():
        request, shard = ReportRequest.model_validate(body), build.Shard.model_validate(part)
        images, check = (shard.first, shard.last), watch.check_cancelled
        with _inputs().open(request, pins) as (models, evalset):
            done = watch.begin(shard, CHUNK[models[shard.cell.model].device.type])
            result = build.measure(
                shard.cell, request, models, evalset, images=images, check_cancelled=check, on_images=done
            )
    count(result, uploaded=not _inputs().is_shipped(shard.cell.model))
    return result.model_dump_json()


def _explained(workflow_id: str, error: Exception) -> GauntletError:
    """The error with which the workflow ends: its reason is stored, and one that nobody expected is in the log."""
    if isinstance(error, GauntletError):
        known = error
    else:
        logger.error("%s failed", workflow_id, exc_info=error)
        known = GauntletError(f"unexpected {type(error).__name__}; the worker's log has it")
    wait_for_database(lambda: jobs().set_attributes(workflow_id, error=str(known)))
    return known


def ended_as_told(record: logging.LogRecord) -> bool:
    """Whether DBOS logs the end of a workflow that is known already: its report was cancelled, or holds the reason."""
    error = record.exc_info[1] if record.exc_info else None
    return isinstance(error, GauntletError | dbos_error.DBOSAwaitedWorkflowCancelledError)


class _ShardWatch:
    """Between a shard's computation and the job database: hears that it is no longer wanted, tells how far it is."""

    def __init__(self, job_id: str, shard_id: str) -> None:
        self._job_id, self._shard_id = job_id, shard_id
        self._done: Callable[[int], float] = lambda _: 0.0  # cost done after so many calls
        self._calls = 0  # since the last chunk of images was finished
        self._looked = 0.0

    def check_cancelled(self) -> None:
        """Raises Cancelled if the report is no longer wanted. Cheap enough to be called at every step."""
        self._calls += 1
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        LIVENESS.computation_moved()
        with contextlib.suppress(ServiceError):  # a database that is away for a moment costs no work
            if not jobs().wanted(self._job_id):
                raise Cancelled("the report is no longer wanted")
            jobs().set_attributes(self._shard_id, done=self._done(self._calls))

    def begin(self, shard: "Shard", chunk: int) -> Callable[[int], None]:
        """The shard is measured from now on, so many images at a time. Returns the listener for the images done."""
        n = shard.last - shard.first
        each = shard.cost / n  # passes through a network per image; a chunk makes them one call each, or fewer

        def on_images(images: int) -> None:
            self._calls = 0
            self._done = lambda calls: each * images + min(calls, each) * min(chunk, n - images)

        on_images(0)
        return on_images
