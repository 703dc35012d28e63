"""What happens in BentoML's parent process before it serves, and beside it: checks, and the care for the worker."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import click

from gauntlet import store
from gauntlet.errors import GauntletError
from service.keys import check_open
from service.logs import LOGGER, configure
from service.settings import ROOT, Settings, SettingsError

LOOK = 0.2  # seconds between two looks at the worker
STABLE = 30.0  # seconds after which a worker's death is no longer its start's fault
LONGEST_WAIT = 30.0


def prepare() -> None:
    """Check what cannot heal, then look after the worker. Ends the process with status 1 and one line of reason."""
    try:
        settings = Settings.load()
        check_open(settings, _host())
        check(settings)
    except GauntletError as error:
        sys.stderr.write(f"gauntlet: {error}\n")
        sys.exit(1)
    configure(settings.log_format)
    os.environ.update(settings.export(), BENTOML_DO_NOT_TRACK="True")
    threading.Thread(target=_look_after, args=(settings,), name="supervisor", daemon=True).start()


def _host() -> str | None:
    """The address that BentoML was told to listen on; None if it was not started by its command line."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.params.get("host")


def check(settings: Settings) -> None:
    """The state folder takes files and every artefact is what its manifest says. Raises GauntletError."""
    try:
        settings.state.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.state):
            pass
    except OSError as error:
        raise SettingsError(f"GAUNTLET_STATE={settings.state}: cannot be written ({error.strerror})") from error
    failure_file(settings).unlink(missing_ok=True)
    store.load_all(settings.artifacts)


def failure_file(settings: Settings) -> Path:
    """Where the API process leaves the reason why it could not start."""
    return settings.state / "startup-failure"


def start_worker() -> subprocess.Popen[bytes]:
    """A worker that ends with this process."""
    command = [sys.executable, "-m", "service.worker", "--parent", str(os.getpid())]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL)  # noqa: S603


def _look_after(settings: Settings) -> None:
    """Restart a dead worker, later each time that it dies young; end everything if the API process cannot start."""
    worker: subprocess.Popen[bytes] | None = None
    started = due = 0.0
    deaths = 0
    failure = failure_file(settings)
    while True:
        now = time.monotonic()
        if failure.exists():
            sys.stderr.write(f"gauntlet: {failure.read_text()}\n")
            sys.stderr.flush()
            os._exit(1)
        if worker is not None and worker.poll() is not None:
            deaths = 0 if now - started > STABLE else deaths + 1
            due = now + min(LONGEST_WAIT, deaths**2 * LOOK)
            LOGGER.warning("the worker has died and will be restarted")
            worker = None
        if settings.local_workers and worker is None and now >= due:
            worker, started = start_worker(), now
        time.sleep(LOOK)
