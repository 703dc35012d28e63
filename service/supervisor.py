"""What happens in BentoML's parent process before it serves, and beside it: checks, and the care for the workers."""

import contextlib
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import click

from gauntlet.artifacts import artefact_folders, evaluation_sets
from gauntlet.errors import GauntletError
from gauntlet.runtime import core_count
from service.auth.keys import check_open
from service.errors import ServiceError
from service.jobs.database import Database
from service.jobs.worker_registry import WorkerRegistry
from service.monitoring_port import check_metrics_port
from service.observability.logs import LOGGER, configure
from service.private_files import keep_private
from service.process_lock import ProcessLock
from service.process_starter import ProcessStarter, Started
from service.settings import ROOT, Settings, SettingsError

LOOK = 0.2  # seconds between two looks at the workers
STABLE = 30.0  # seconds after which a worker's death is no longer its start's fault
LONGEST_WAIT = 30.0


def prepare(starter: ProcessStarter) -> None:
    """Check what cannot heal, then look after the workers. Ends the process with status 1 and one line of reason."""
    try:
        settings = Settings.load()
        check_open(settings, _host())
        check(settings)
        check_metrics_port(settings)
        begin_anew(settings)
    except GauntletError as error:
        sys.stderr.write(f"gauntlet: {error}\n")
        sys.exit(1)
    configure(settings.log_format)
    os.environ.update(settings.export())
    threading.Thread(target=_look_after, args=(settings, starter), name="supervisor", daemon=True).start()


def _host() -> str | None:
    """The address that BentoML was told to listen on; None if it was not started by its command line."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.params.get("host")


def check(settings: Settings) -> None:
    """The state folder takes files and no other host uses it; every artefact is what its manifest says.

    Raises GauntletError.
    """
    keep_private(settings.state, settings.database_url)
    try:
        settings.state.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.state):
            pass
    except OSError as error:
        raise SettingsError(f"GAUNTLET_STATE={settings.state}: cannot be written ({error.strerror})") from error
    database = Database(settings.database_url)
    with contextlib.suppress(ServiceError):  # not there yet, or away for a moment: that heals
        WorkerRegistry(database).check(None)
    database.close()
    artefact_folders.load_all(settings.artifacts)
    evaluation_sets.load_all(settings.evalsets)


def begin_anew(settings: Settings) -> None:
    """Remove what the processes of a former start have left for each other, and keep others from doing so.

    Raises SettingsError where another service uses the folder.
    """
    if not ProcessLock(settings.run_lock).take_if_free():  # held until this process ends
        message = f"another service with GAUNTLET_PORT={settings.port} uses GAUNTLET_STATE={settings.state}"
        raise SettingsError(f"{message}: choose another port or another folder")
    shutil.rmtree(settings.run_folder, ignore_errors=True)
    settings.metrics_folder.mkdir(parents=True)


def start_worker(settings: Settings, position: int, starter: ProcessStarter) -> Started:
    """One of the local workers, which ends with this process."""
    count = settings.local_workers
    own = {
        "GAUNTLET_THREADS": settings.threads or max(1, core_count.available() // count),
        "GAUNTLET_WORKER_PORT": settings.worker_port and settings.worker_port + position,
        "GAUNTLET_EXECUTOR": f"{settings.executor}-{position}"
        if settings.executor and count > 1
        else settings.executor,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    environment = {**os.environ, **{name: str(value) for name, value in own.items()}}
    arguments = ["--parent", str(os.getpid())]
    return starter.start("worker", "service.worker", arguments, environment, Path.cwd())


class WorkerKeeper:
    """Restarts one worker when it dies, later each time that it dies young."""

    def __init__(self, settings: Settings, position: int, starter: ProcessStarter) -> None:
        self._settings, self._position, self._starter = settings, position, starter
        self._worker: Started | None = None
        self._started = self._due = 0.0
        self._deaths = 0

    def look(self, now: float) -> None:
        if self._worker is not None and self._worker.poll() is not None:
            self._deaths = 0 if now - self._started > STABLE else self._deaths + 1
            self._due = now + self._wait
            LOGGER.warning("a worker has died and will be restarted")
            self._worker = None
        if self._worker is None and now >= self._due:
            try:
                self._worker, self._started = start_worker(self._settings, self._position, self._starter), now
            except OSError as error:  # as where memory or process ids have run out
                self._deaths += 1
                self._due = now + self._wait
                LOGGER.error("a worker cannot be started, and will be tried again: %s", error)

    @property
    def _wait(self) -> float:
        """Seconds until the next start."""
        return min(LONGEST_WAIT, self._deaths**2 * LOOK)


def _look_after(settings: Settings, starter: ProcessStarter) -> None:
    """Keep the workers alive; end everything if the API process cannot start."""
    keepers = [WorkerKeeper(settings, position, starter) for position in range(settings.local_workers)]
    failure = settings.failure_file
    while True:
        if failure.exists():
            sys.stderr.write(f"gauntlet: {failure.read_text()}\n")
            sys.stderr.flush()
            os._exit(1)
        for keeper in keepers:
            keeper.look(time.monotonic())
        time.sleep(LOOK)
