"""``python -m service.worker``: computes the reports that wait in the job database, together with all other workers."""

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
import time
import uuid
from queue import Empty, SimpleQueue
from typing import NoReturn

import sqlalchemy as sa
from dbos import DBOS, DBOSPortableJSONSerializer

from gauntlet.errors import GauntletError
from gauntlet.process_priority import lower_priority
from service.auth.keys import Keyring, check_open
from service.errors import ServiceError
from service.exit_with_parent import exit_with_parent
from service.jobs import workflows
from service.jobs.queue import QUEUE, SHARDS, VERSION
from service.jobs.takeover import SilenceDetector, has_ended, hold_name, remove_stale_locks
from service.jobs.worker_registry import WorkerRegistry
from service.monitoring_port import METRICS, TEXT, MonitoringPort, metrics_page
from service.observability import logs, worker_metrics
from service.private_files import keep_private
from service.settings import Settings, SettingsError
from service.sql import driver_message
from service.uploads.records import UploadRecords

logger = logging.getLogger("gauntlet.worker")

HEARTBEAT = 1.0  # seconds between two signs of life
POLL = 0.5  # seconds between two looks for work
POOL = 5  # connections to the job database that DBOS keeps
HOUSEKEEPING = 3600.0  # seconds between two looks for what is too old
NICE = 10  # the API and compute processes work for somebody who waits: they go first


def _livez() -> tuple[int, bytes, str]:
    reason = worker_metrics.LIVENESS.why_hung()
    return 200 if reason is None else 503, f"{reason or 'alive'}\n".encode(), TEXT


PAGES = {"/livez": _livez, METRICS: metrics_page(worker_metrics.REGISTRY)}
"""Of the worker's own port."""


class WorkerLoop:
    """What a worker does beside computing: it shows that it lives, and takes over the work of those who do not."""

    def __init__(self, settings: Settings, executor: str, executors: WorkerRegistry) -> None:
        self._settings, self._executor, self._executors = settings, executor, executors
        self._uploads = UploadRecords.of(settings)
        self._silence = SilenceDetector()
        self._due = 0.0

    def turn(self, now: float) -> None:
        """One turn. Raises ServiceError while the job database is away, SettingsError where another host forbids."""
        self._executors.check(self._executor)
        self._executors.heartbeat(self._executor)
        signs = {name: sign for name, sign in self._executors.holders().items() if name != self._executor}
        state = self._settings.state
        for name in {*self._silence.silent(signs, now), *(name for name in signs if has_ended(state, name))}:
            taken = self._executors.take_over(name)
            logger.warning("took over %d parts of reports from worker %s, which has ended or is silent", taken, name)
        if adopted := self._executors.adopt():
            logger.warning("adopted %d reports of an earlier release; they are computed from the start", adopted)
        if now >= self._due:
            self._due = now + HOUSEKEEPING
            remove_stale_locks(state)
            if self._settings.keep_days and (gone := self._executors.expire(self._settings.keep_days)):
                logger.info("deleted %d reports that ended over %g days ago", gone, self._settings.keep_days)
            with contextlib.suppress(ServiceError):  # told in the log; the next look finds them too
                self._uploads.sweep()


def _name(settings: Settings) -> str:
    """The worker's own among all: DBOS takes running work under the name of a starting worker for that one's."""
    return settings.executor or f"{socket.gethostname()[:40]}-{uuid.uuid4().hex[:12]}"


def _launch(settings: Settings, executor: str, executors: WorkerRegistry) -> None:
    """Start DBOS. It takes up what a killed predecessor of the same name has left."""
    DBOS(
        config={
            "name": "gauntlet",
            "system_database_url": settings.database_url,
            "sys_db_pool_size": POOL,
            "application_version": VERSION,
            "executor_id": executor,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
        }
    )
    try:
        workflows.jobs().database.migrate()
        executors.check(executor)
        DBOS.launch()
        for queue, of_one in ((QUEUE, 1), (SHARDS, workflows.AHEAD)):
            DBOS.register_queue(
                queue,
                worker_concurrency=of_one * workflows.REQUESTERS,
                partition_worker_concurrency=of_one,
                polling_interval_sec=POLL,
                on_conflict="always_update",
            )
    except sa.exc.DBAPIError as error:
        raise SettingsError(f"the job database cannot be used: {driver_message(error)}") from error


def _work(settings: Settings, executor: str) -> None:
    """Until SIGTERM."""
    over: SimpleQueue[int] = SimpleQueue()  # which a signal's handler may write to at any moment
    executors = WorkerRegistry(workflows.jobs().database)
    _launch(settings, executor, executors)
    logs.shape(settings.log_format)  # DBOS has its own handler
    logging.getLogger("dbos").addFilter(lambda record: not workflows.ended_as_told(record))
    signal.signal(signal.SIGTERM, lambda number, _: over.put(number))
    loop = WorkerLoop(settings, executor, executors)
    while True:
        try:
            loop.turn(time.monotonic())
            worker_metrics.LIVENESS.loop_turned("told")
        except ServiceError:  # a database that is away for a moment costs no work
            worker_metrics.LIVENESS.loop_turned("failed")
        with contextlib.suppress(Empty):
            over.get(timeout=HEARTBEAT)
            break
    try:
        executors.leave(executor)
    except ServiceError as error:  # others will notice its silence
        logger.warning("%s", error)


def main() -> NoReturn:
    """Work until ended. Ends with status 1, after one line of reason, where it cannot."""
    parser = argparse.ArgumentParser(prog="python -m service.worker", description=__doc__)
    parser.add_argument("--parent", type=int, help="end together with this process")
    parent = parser.parse_args().parent
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = workflows.settings()
        logs.shape(settings.log_format)
        logs.audit()
        if parent is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
            exit_with_parent(parent)
        lower_priority(NICE)
        keep_private(settings.state, settings.database_url)
        settings.state.mkdir(parents=True, exist_ok=True)
        executor = _name(settings)
        with hold_name(settings.state, executor):
            if settings.worker_port:
                check_open(settings, str(settings.host))
                keys = None if settings.metrics_open else Keyring.of(settings)
                MonitoringPort("GAUNTLET_WORKER_PORT", settings.host, settings.worker_port, PAGES, keys)
            _work(settings, executor)
        os._exit(0)  # what is being computed has been given back: nobody waits for it
    except (GauntletError, ServiceError) as error:
        sys.stderr.write(f"gauntlet: worker: {error}\n")
        sys.stderr.flush()
        os._exit(1)  # not held up by DBOS's threads


if __name__ == "__main__":
    main()
