"""``python -m service doctor``: what would keep the service from working here, in words, before it is started."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from gauntlet.artifacts import artefact_folders, evaluation_sets
from gauntlet.errors import GauntletError
from gauntlet.onnx_import.settings import ImageSetSettings
from gauntlet.runtime import core_count
from gauntlet.runtime.cuda_driver import cuda_devices
from gauntlet.runtime.served import device_kind
from gauntlet.sandbox.fork_server import ForkServer, Limits
from gauntlet.sandbox.sandboxed_classifier import read_pictures
from service import migrations
from service.auth.keys import Keyring, check_open
from service.errors import ServiceError
from service.jobs.database import Database
from service.jobs.worker_registry import WorkerRegistry
from service.settings import Settings, SettingsError
from service.sql import driver_message
from service.uploads.file_storage import Folder, file_store

GIB = 2**30
LEAST_FREE = GIB  # bytes where the state folder lies: reports of all jobs are kept there
COMPUTES = GIB  # bytes of the compute process or of a worker, with all shipped models open
ANSWERS = 3 * GIB // 8  # bytes of an API process, with all shipped models open
APART = 60.0  # seconds by which this clock and the database's may differ


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; where it is not ``good``, the text says what to do."""

    subject: str
    good: bool
    text: str


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Every check, whatever the others say."""
    for subject, check in CHECKS.items():
        try:
            yield Finding(subject, good=True, text=check(settings))
        except (GauntletError, ServiceError) as error:
            yield Finding(subject, good=False, text=str(error))


def _keys(settings: Settings) -> str:
    check_open(settings, str(settings.host))
    if Keyring.of(settings) is not None:
        return "every call needs a key"
    return f"nobody is asked for a key; the service listens on {settings.host}"


def _models(settings: Settings) -> str:
    models = artefact_folders.load_all(settings.artifacts)
    sets = evaluation_sets.load_all(settings.evalsets)
    if not models:
        raise SettingsError(f"GAUNTLET_MODELS={settings.models}: there is no model in its folder artifacts")
    return f"{len(models)} models and {len(sets)} evaluation sets, each byte what its manifest says"


def _device(settings: Settings) -> str:
    if device_kind(settings.device) == "cuda":
        return f"CUDA, {cuda_devices()} device{'s' if cuda_devices() > 1 else ''}"
    return f"CPU, {settings.threads or core_count.available()} cores; attacks and reports are slower than on a GPU"


def _memory(settings: Settings) -> str:
    needed = COMPUTES * (1 + settings.local_workers) + ANSWERS * settings.api_processes
    free = _available()
    if free < needed:
        raise SettingsError(
            f"{free / GIB:.1f} GiB are free; {settings.api_processes} API processes, the compute process and "
            f"{settings.local_workers} workers may take {needed / GIB:.1f}: give it more, or smaller "
            "GAUNTLET_API_WORKERS and GAUNTLET_LOCAL_WORKERS"
        )
    return f"{free / GIB:.1f} GiB are free; an uploaded model may take up to {settings.upload_memory / GIB:.1f} more"


def _available(process: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that may still be taken: of the machine, or of this process's container if that is less."""
    lines = dict(line.split(":", 1) for line in process.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = group / "memory.max", group / "memory.current"
    if limit.is_file() and (most := limit.read_text().strip()) != "max":
        free = min(free, int(most) - int(used.read_text()))
    return free


def _writable(setting: str, path: Path) -> Path:
    """The folder itself, or the nearest above it. Raises SettingsError where nothing can be made there."""
    folder = next(each for each in (path, *path.parents) if each.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise SettingsError(f"{setting}={path}: cannot be written")
    return folder


def _state(settings: Settings) -> str:
    free = shutil.disk_usage(_writable("GAUNTLET_STATE", settings.state)).free
    if free < LEAST_FREE:
        raise SettingsError(f"GAUNTLET_STATE={settings.state}: only {free / GIB:.2f} GiB are free there")
    return f"{settings.state}, {free / GIB:.0f} GiB free"


def _store(settings: Settings) -> str:
    """Object storage is tried out; a folder is only looked at."""
    files = file_store(settings)
    if isinstance(files, Folder):
        _writable("GAUNTLET_STORE", files.path)
        return f"{settings.store}, a folder; hosts that share a job database need one that all of them reach"
    with files.draft() as draft:
        draft.write(b"written by python -m service doctor")
        sha256 = files.keep(draft)
    files.open(sha256).close()
    files.remove(sha256)
    return f"{settings.store}: a file was written, read and removed"


def _database(settings: Settings) -> str:
    with closing(Database(settings.database_url)) as database:
        path = database.engine.url.database or ""
        if database.sqlite and not Path(path).exists():
            return f"SQLite, {path}: the first worker makes it"
        with _reached(database) as connection:
            found = migrations.revision(connection)
        migrations.check_known(found)
        try:
            WorkerRegistry(database).check(None)
        except ServiceError:  # reached, so it has no tables
            return "it answers; the first worker makes the tables"
        if found != migrations.HEAD:
            return "it answers; the first worker brings the tables of an earlier release to this one"
        return f"it answers: {database.engine.dialect.name}"


def _clock(settings: Settings) -> str:
    with closing(Database(settings.database_url)) as database:
        if database.sqlite:
            return "the database's is this host's"
        with _reached(database) as connection:
            ahead = time.time() - connection.execute(sa.select(database.now)).scalar_one() / 1000
    if abs(ahead) > APART:
        where = "ahead of" if ahead > 0 else "behind"
        raise SettingsError(
            f"this host's is {abs(ahead):.0f} s {where} the database's: times of reports, and days, differ"
        )
    return f"{abs(ahead):.1f} s from the database's"


def _reached(database: Database) -> sa.Connection:
    """Raises SettingsError with the driver's words: whoever asks here is the operator."""
    try:
        return database.engine.connect()
    except sa.exc.DBAPIError as error:
        raise SettingsError(f"GAUNTLET_DATABASE_URL cannot be reached: {driver_message(error)}") from error


def _sandbox(settings: Settings) -> str:
    limits = Limits(settings.upload_memory, settings.threads)
    with closing(ForkServer(limits)) as server, tempfile.TemporaryFile() as file:
        np.savez(file, images=np.zeros((1, 1, 8, 8), np.uint8), labels=np.zeros(1, np.int64))
        file.flush()
        lacking = server.unconfined
        if lacking and settings.sandbox_required:
            raise SettingsError(f"GAUNTLET_SANDBOX=require: uploads are refused on this machine, {lacking}")
        read_pictures(server, file, ImageSetSettings(name="doctor"))
    if lacking:
        return (
            f"a child process read a file, confined only in part: {lacking}; GAUNTLET_SANDBOX=require refuses uploads"
        )
    return "a child process read a file, confined: it reaches no other process or address, and no file but libraries"


CHECKS: Mapping[str, Callable[[Settings], str]] = {
    "keys": _keys,
    "models": _models,
    "device": _device,
    "memory": _memory,
    "state": _state,
    "store": _store,
    "database": _database,
    "clock": _clock,
    "sandbox": _sandbox,
}
