"""``python -m service.worker``: computes the reports that wait in the job database, one at a time, cell by cell.

A cell that is done is never computed again: after a kill the next worker goes on behind it. There is no other way to
stop a worker than to end it, so that what survives a kill is what is always used.
"""

import argparse
import contextlib
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from dbos import DBOS, DBOSPortableJSONSerializer

from gauntlet.errors import Cancelled, GauntletError
from service import logs
from service.errors import Code, ServiceError
from service.jobs import HEARTBEAT, QUEUE, VERSION, WORKFLOW, Jobs
from service.keys import Keyring, check_open
from service.lifeline import end_with
from service.probe import Probe
from service.progress import PULSE, count_cell
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from service.laboratory import Cell, Laboratory, ReportRequest

logger = logging.getLogger("gauntlet.worker")

PATIENCE = 3.0  # seconds in which a predecessor may let go of the state folder
LOOK = 0.5  # seconds between two looks at the job database: is the report still wanted, how far is it
LIVES = 10  # workers that one report may kill before it counts as failed
NICE = 5  # the API process computes for somebody who waits: it goes first


@cache
def _settings() -> Settings:
    return Settings.load()


@cache
def _jobs() -> Jobs:
    return Jobs(_settings().database_url)


@cache
def _laboratory() -> "Laboratory":
    from service.laboratory import Laboratory  # noqa: PLC0415  an idle worker does without torch

    return Laboratory(_settings())


class _Watch:
    """Between one report's computation and the job database: hears the wish to cancel, tells the progress."""

    def __init__(self, job_id: str, total: int) -> None:
        self._job_id, self._total = job_id, total
        self._floor = float(_jobs().attributes(job_id).get("progress", 0.0))  # a new worker must not tell less
        self._done, self._seconds = 0, 0.0  # cost of the finished cells, and the time they took
        self._under_way: Callable[[int], float] = lambda _: 0.0  # cost done of the cell that is being measured
        self._started = self._looked = 0.0
        self._calls = 0  # since the last chunk of images was finished

    def stop(self) -> None:
        """Raises Cancelled if the report is no longer wanted. Cheap enough to be called at every step."""
        self._calls += 1
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        PULSE.stepped()
        try:
            wanted = not _jobs().attributes(self._job_id).get("cancel")
        except ServiceError as error:  # a database that is away for a moment costs no work
            wanted = error.code is not Code.UNKNOWN_REPORT
        if not wanted:
            raise Cancelled("the report was cancelled")
        self._tell(self._done + self._under_way(self._calls), self._seconds + now - self._started)

    def begin(self, cell: "Cell", n: int, chunk: int) -> Callable[[int], None]:
        """A cell of n images is measured from now on, so many at a time. Returns the listener for the images done."""
        each = cell.cost / n  # passes through a network per image; a chunk makes them one call each, or fewer

        def heard(images: int) -> None:
            self._calls = 0
            self._under_way = lambda calls: each * images + min(calls, each) * min(chunk, n - images)

        heard(0)
        self._started = time.monotonic()
        return heard

    def finished(self, cell: "Cell", seconds: float) -> None:
        self._done += cell.cost
        self._seconds += seconds
        self._under_way = lambda _: 0.0
        self._started = time.monotonic()
        self._looked = 0.0  # tell it now
        self.stop()

    def _tell(self, done: float, seconds: float) -> None:
        self._floor = max(self._floor, done / self._total)
        eta = seconds * (self._total - done) / done if done else None
        with contextlib.suppress(ServiceError):
            _jobs().tell(self._job_id, min(self._floor, 0.99), eta)  # 1 is for the report that is there


@DBOS.workflow(name=WORKFLOW, max_recovery_attempts=LIVES)
def robustness_report(body: Mapping[str, Any], pins: Mapping[str, str]) -> dict[str, Any]:
    """One report. Its steps, in order: every cell, then the report and its page."""
    job_id = str(DBOS.workflow_id)
    try:
        with PULSE.report():
            return _compute(job_id, body, pins)
    except Cancelled:
        _jobs().acknowledge(job_id)
        raise
    except Exception as error:
        known = isinstance(error, GauntletError)
        if not known:
            logger.exception("report %s failed", job_id)
        reason = str(error) if known else f"unexpected {type(error).__name__}; the worker's log has it"
        with contextlib.suppress(ServiceError):
            _jobs().explain(job_id, reason)
        raise


def _compute(job_id: str, body: Mapping[str, Any], pins: Mapping[str, str]) -> dict[str, Any]:
    from service import laboratory  # noqa: PLC0415  an idle worker does without torch

    request = laboratory.ReportRequest.model_validate(body)
    watch = _Watch(job_id, laboratory.cost(request))
    watch.stop()  # a wish recorded before this worker took the job: nothing has been computed
    results = []
    for cell in laboratory.cells(request):
        measured = DBOS.run_step({"name": cell.key}, _measure, cell, request, pins, watch)
        results.append(laboratory.CellResult.model_validate_json(measured))
        watch.finished(cell, results[-1].seconds)

    def write() -> dict[str, Any]:
        lab = _laboratory()
        report = laboratory.assemble(request, results, lab.models(request, pins), lab.evalset(request, pins))
        return {"report": report.model_dump(mode="json"), "page": laboratory.render(report)}

    return DBOS.run_step({"name": "write"}, write)


def _measure(cell: "Cell", request: "ReportRequest", pins: Mapping[str, str], watch: _Watch) -> str:
    from service import laboratory  # noqa: PLC0415  an idle worker does without torch

    lab = _laboratory()
    models, evalset = lab.models(request, pins), lab.evalset(request, pins)
    heard = watch.begin(cell, request.n, laboratory.CHUNK[models[cell.model].device.type])
    result = laboratory.measure(cell, request, models, evalset, stop=watch.stop, on_images=heard)
    count_cell(result)
    return result.model_dump_json()


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the state folder. Two workers of one name would each take the other's running job for a dead one's."""
    settings.state.mkdir(parents=True, exist_ok=True)
    with (settings.state / f"worker-{settings.executor}.lock").open("w") as file:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    message = f"GAUNTLET_STATE={settings.state}: a worker named {settings.executor} uses it already"
                    raise SettingsError(message) from error
                time.sleep(0.1)
        yield


def _launch(settings: Settings) -> None:
    """Start DBOS. It takes up what a killed predecessor of the same name has left."""
    DBOS(
        config={
            "name": "gauntlet",
            "system_database_url": settings.database_url,
            "application_version": VERSION,
            "executor_id": settings.executor,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
        }
    )
    _jobs().migrate()
    _jobs().beat(settings.executor)
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=1, polling_interval_sec=0.25, on_conflict="always_update")


def _beat(executor: str) -> None:
    try:
        _jobs().beat(executor)
        PULSE.turned("told")
    except ServiceError:  # a database that is away for a moment costs no work
        PULSE.turned("failed")


def _end(_: int, __: object) -> None:
    with contextlib.suppress(ServiceError):
        _jobs().gone(_settings().executor)
    os._exit(0)


def main() -> int:
    """Work until ended. Returns 1, after one line of reason, where it cannot."""
    parser = argparse.ArgumentParser(prog="python -m service.worker", description=__doc__)
    parser.add_argument("--parent", type=int, help="end together with this process")
    parent = parser.parse_args().parent
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = _settings()
        logs.shape(settings.log_format)
        logs.audit()
        if parent is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
            end_with(parent)
        os.nice(NICE)
        with _alone(settings):
            if settings.worker_port:
                check_open(settings, str(settings.host))
                Probe(settings.host, settings.worker_port, None if settings.metrics_open else Keyring.of(settings))
            _launch(settings)
            logs.shape(settings.log_format)  # DBOS has its own handler
            signal.signal(signal.SIGTERM, _end)
            while True:
                _beat(settings.executor)
                threading.Event().wait(HEARTBEAT)
    except GauntletError as error:
        sys.stderr.write(f"gauntlet: worker: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
