"""Every setting of the service, read from the environment: ``python -m service settings`` prints them as a table."""

import socket
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    IPvAnyAddress,
    IPvAnyNetwork,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gauntlet.artifacts import object_storage
from gauntlet.errors import GauntletError
from gauntlet.runtime import core_count
from gauntlet.runtime.cuda_driver import cuda_devices

MOST_API_PROCESSES = 4  # by default
ROOT = Path(__file__).resolve().parent.parent

Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(ge=1)]
Limit = Annotated[int, Field(ge=0)]  # 0: none
Origin = Annotated[str, StringConstraints(pattern=r"^(\*|https?://[^/\s,]+)$")]


def _listed(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class SettingsError(GauntletError):
    """A setting has a value that it cannot have."""


class Settings(BaseSettings):
    """A wrong value is refused at start."""

    model_config = SettingsConfigDict(env_prefix="GAUNTLET_", frozen=True, use_attribute_docstrings=True)

    host: IPvAnyAddress = IPv4Address("127.0.0.1")
    """Address to listen on."""
    port: Port = 3000
    """Port to listen on."""
    models: Path = ROOT / "models"
    """Folder with artifacts/ and evalsets/."""
    data: Path = Path("data")
    """Folder whose evalsets/ holds more evaluation sets; relative to the working directory."""
    state: Path = Path("state")
    """Folder for the job database (SQLite), proofs of certificates, lock files, counters and rates; needed with
    PostgreSQL too; relative to the working directory."""
    store: str = ""
    """Where the files of uploaded models and evaluation sets lie: a folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX
    or az://CONTAINER/PREFIX with the credentials of AWS_*, GOOGLE_* or AZURE_*; none: `store` in GAUNTLET_STATE. Hosts
    that share a job database need one that all of them reach."""
    store_cache: Positive = 16 * 2**30
    """Bytes of the copies that a host keeps in GAUNTLET_STATE of what it has opened from s3://, gs:// or az://."""
    database_url: str = ""
    """The job database; none: SQLite in GAUNTLET_STATE; PostgreSQL lets several hosts share it."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """`auto`, `cuda` or `cpu`; `cuda` fails at start where there is none."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Cores that a process computes on; 0: all that it may use, a container's limit counted."""
    api_workers: Annotated[int, Field(ge=0, le=64)] = 0
    """Processes that answer requests; 0: as many as there are cores, four at most, and one where a GPU serves.
    GAUNTLET_MAX_BODIES and GAUNTLET_PREDICT_QUEUE are totals; each API process gets an equal share."""
    local_workers: Annotated[int, Field(ge=0, le=64)] = 1
    """Workers that run with the service; 0: `python -m service.worker` runs elsewhere."""
    worker_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port of a worker's own /livez and /metrics, on GAUNTLET_HOST. With N local workers they use this port and the N-1
    after it; 0: no port."""
    executor: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = ""
    """Name of a worker, kept across restarts; none: host and a random part. Workers that share a database need
    different names."""
    keep_days: Annotated[float, Field(ge=0)] = 0.0
    """Days after which a worker deletes a report that has ended; 0: never."""
    open: bool = False
    """`true`: ask nobody for a key, although GAUNTLET_HOST can be reached from elsewhere, and answer by any name."""
    keys_file: Path | None = None
    """File with a key a line, from `python -m service keys new`; read again when it changes."""
    api_keys: str = Field(default="", repr=False)
    """The lines of such a file, in the environment; with either, a call needs a key."""
    metrics_open: bool = False
    """`true`: /metrics needs no key, the worker's neither."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port of /metrics alone, on GAUNTLET_HOST; then there is none on GAUNTLET_PORT. 0: no such port."""
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_listed)] = ()
    """Addresses and networks (10.0.0.0/8) of the proxies in front, with commas: only their X-Forwarded-For is
    believed, in limits and in the audit log."""
    requests_per_minute: Limit | None = None
    """Requests of one key, or of one address where no keys are in use, to one service; 0: no limit; none: 6000 for a
    key, no limit for an address."""
    requests_at_once: Limit | None = None
    """How many of these may be answered at the same time; 0: no limit; none: 64 for a key, no limit for an address."""
    waiting_reports: Limit | None = None
    """Reports of one key, or of one address where no keys are in use, that may wait for a worker; 0: no limit; none: 20
    for a key, no limit for an address."""
    reports_per_day: Limit | None = None
    """Reports that one key may ask for, by the UTC day; 0: no limit; none: 200."""
    stored_reports: Limit | None = None
    """Reports that one key may have in the job database; 0: no limit; none: 1000."""
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_listed)] = ()
    """Origins whose pages may ask, as https://example.org, with commas; or *."""
    max_body: Positive = 32 * 2**20
    """Bytes of a request body."""
    max_upload: Positive = 2**31
    """Bytes of a body that brings files: a model or a set of images. It is written to the temporary folder as it comes;
    each API process takes up to twice as many bytes of such bodies at once."""
    max_bodies: Positive = 512 * 2**20
    """Bytes of the bodies of all requests that are being answered; more get 503. And of the answers that their clients
    have not read; where there are more, who has left one unread longest is disconnected."""
    body_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Seconds that the body of a request may take to arrive."""
    connections: Positive = 16384
    """Connections that may be open. Where there are more, the one is closed that has waited longest for a request; if
    none waits, the new one gets 503."""
    connections_of_one: Positive = 8192
    """The same, of one address; those of `GAUNTLET_TRUSTED_PROXIES` speak for many and have no limit of their own."""
    header_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Seconds that the headers of a request may take to arrive."""
    read_seconds: Annotated[float, Field(gt=0)] = 30.0
    """Seconds without progress after which a client that does not read its answer is disconnected."""
    max_images: Positive = 1024
    """Images of one request."""
    predict_queue: Annotated[int, Field(ge=0)] = 256
    """Predictions that may wait for one model, and generations. Where more come, whoever has most waiting gets 429 for
    the newest. Predictions of uploaded models have queues of this length in the compute process."""
    attack_budget: Positive = 200_000
    """Price of one /attack: images x gradient steps x restarts x (1 + transfer models); of one /classify with
    smoothing: images x draws."""
    attack_deadline: Annotated[float, Field(gt=0, le=3000)] = 60.0
    """Seconds that one /attack, /certify, or /classify with smoothing, may take, waiting included."""
    attack_slots: Positive = 1
    """How many of these compute at the same time."""
    attack_queue: Annotated[int, Field(ge=0)] = 8
    """How many of these may wait for a slot. Where more come, whoever has most waiting gets 429 for the newest."""
    report_queue: Positive = 100
    """Reports that may wait for a worker; more get 429."""
    max_uploads: Annotated[int, Field(ge=0)] = 100
    """Models, and evaluation sets, that users may keep in GAUNTLET_STORE."""
    model_sources: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = ()
    """Prefixes of addresses below which an admin may have models fetched, with commas: s3://BUCKET/models/, hf://ORG,
    mlflow:models:/; none: nothing is fetched."""
    upload_memory: Annotated[int, Field(ge=2**28)] = 2**31
    """Bytes that the process of an uploaded model may take beyond its start."""
    sandbox: Literal["auto", "require"] = "auto"
    """`auto`: uploads are confined as far as the kernel can; `require`: they are refused (503 `model_failed`) where it
    lacks Landlock or seccomp. `python -m service doctor` says which it is."""
    drain_s: Positive = 25
    """Seconds that running requests have to finish after SIGTERM; new ones are refused."""
    access_log: bool = True
    """One log line per request."""
    log_format: Literal["text", "json"] = "text"
    """`text`, or `json`: one object a line, with the request's id."""

    @model_validator(mode="before")
    @classmethod
    def _absolute(cls, values: dict[str, object]) -> dict[str, object]:
        """Paths hold in every process of the service, whatever its working directory."""
        state = Path(str(values.get("state", "state"))).resolve()
        store = str(values.get("store") or state / "store")
        store = store if object_storage.is_url(store) else str(Path(store).resolve())
        database = values.get("database_url") or f"sqlite:///{state / 'jobs.sqlite'}"
        models = Path(str(values.get("models", ROOT / "models"))).resolve()
        data = Path(str(values.get("data", "data"))).resolve()
        keys = Path(str(values["keys_file"])).resolve() if values.get("keys_file") else None
        paths = {"models": models, "data": data, "state": state, "keys_file": keys}
        return {**values, **paths, "database_url": database, "store": store}

    def export(self) -> dict[str, str]:
        """The variables that make every process started from here agree on the folders, and on how many there are."""
        paths = {"MODELS": self.models, "DATA": self.data, "STATE": self.state, "KEYS_FILE": self.keys_file}
        found = {"GAUNTLET_STORE": self.store}
        found |= {f"GAUNTLET_{name}": str(path) for name, path in paths.items() if path is not None}
        return {**found, "GAUNTLET_API_WORKERS": str(self.api_processes)}

    @property
    def sandbox_required(self) -> bool:
        """Whether no process may touch an upload that this machine cannot confine."""
        return self.sandbox == "require"

    def share(self, limit: int) -> int:
        """Each API process's equal share of a limit of the whole service."""
        return -(-limit // self.api_processes)

    @property
    def api_processes(self) -> int:
        """How many answer requests."""
        if self.api_workers:
            return self.api_workers
        on_gpu = self.device != "cpu" and cuda_devices() > 0
        return 1 if on_gpu else min(MOST_API_PROCESSES, core_count.available())

    @property
    def run_folder(self) -> Path:
        """What the processes of this service share while it runs; another with this state folder has one of its own."""
        return self.state / f"service-{self.port}"

    @property
    def opener(self) -> str:
        """Who opens uploads here, among all hosts: the same after a restart."""
        return f"{socket.gethostname()}:{self.run_folder}"

    @property
    def run_lock(self) -> Path:
        """Held by the service that uses the run folder, which is removed at each start."""
        return self.state / f"service-{self.port}.lock"

    @property
    def rates_file(self) -> Path:
        """Who may ask when again: what all API processes count together."""
        return self.run_folder / "rates.sqlite"

    @property
    def metrics_folder(self) -> Path:
        """The counters of every process that answers or computes, which each /metrics adds up."""
        return self.run_folder / "metrics"

    @property
    def repository_file(self) -> Path:
        """Which models have been unloaded and reloaded since the start."""
        return self.run_folder / "repository.json"

    @property
    def device_file(self) -> Path:
        """Where the compute process writes what it computes on: API processes use the certificates proved there."""
        return self.run_folder / "device"

    @property
    def proofs_folder(self) -> Path:
        """Certificates that have been proved: written by the compute process and the workers, read by all."""
        return self.state / "proofs"

    @property
    def store_cache_folder(self) -> Path:
        """Copies of files that lie in object storage."""
        return self.state / "store-copies"

    @property
    def failure_file(self) -> Path:
        """Where a process of the service leaves the reason why it could not start."""
        return self.run_folder / "startup-failure"

    @property
    def artifacts(self) -> Path:
        return self.models / "artifacts"

    @property
    def evalsets(self) -> tuple[Path, ...]:
        """Where evaluation sets lie: those that travel with the models, and those that `make data` writes."""
        return self.models / "evalsets", self.data / "evalsets"

    @classmethod
    def load(cls) -> Self:
        """From the environment. Raises SettingsError naming the variable and what it may be."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = "_".join(str(part) for part in first["loc"]).upper()
            raise SettingsError(f"GAUNTLET_{name}={first['input']}: {first['msg']}") from error


def described() -> str:
    """All settings as a page of Markdown, which is docs/settings.md: variable, default, meaning."""
    lines = ["# Settings", "", "Environment variables; `python -m service settings` prints this page.", ""]
    lines += ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default, meaning = field.default, " ".join((field.description or "").split())
        if isinstance(default, Path) and default.is_relative_to(ROOT):
            default = f"{default.relative_to(ROOT)}/ beside the code"
        told = "none" if default in ("", (), None) else str(default).lower() if isinstance(default, bool) else default
        lines.append(f"| `GAUNTLET_{name.upper()}` | {told} | {meaning} |")
    return "\n".join(lines)
