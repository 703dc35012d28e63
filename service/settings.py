"""Every setting of the service, read from the environment.

| variable | default | meaning |
| --- | --- | --- |
| GAUNTLET_HOST | 127.0.0.1 | address to listen on |
| GAUNTLET_PORT | 3000 | port to listen on |
| GAUNTLET_MODELS | models/ beside the code | folder with artifacts/ and evalsets/ |
| GAUNTLET_DATA | data | folder whose evalsets/ holds more evaluation sets; relative to the working directory |
| GAUNTLET_STATE | state | folder for the job database; relative to the working directory |
| GAUNTLET_DATABASE_URL | SQLite in GAUNTLET_STATE | the job database; PostgreSQL lets several hosts share it |
| GAUNTLET_DEVICE | auto | auto, cuda or cpu; cuda fails at start where there is none |
| GAUNTLET_THREADS | all cores that it may use | threads of one computation; a container's limit counts |
| GAUNTLET_LOCAL_WORKERS | 1 | workers that run with the service; 0: `python -m service.worker` runs elsewhere |
| GAUNTLET_WORKER_PORT | 0 | port of a worker's own /livez and /metrics, on GAUNTLET_HOST; 0: none |
| | | ... of the first worker that runs with the service; the others have the ports behind it |
| GAUNTLET_EXECUTOR | host and a random part | name of a worker; workers that share a database need different ones |
| GAUNTLET_KEEP_DAYS | 0 | days after which a worker deletes a report that has ended; 0: never |
| GAUNTLET_OPEN | false | true: ask nobody for a key, although GAUNTLET_HOST can be reached from elsewhere |
| GAUNTLET_KEYS_FILE | none | file with a key a line, from `python -m service keys new`; read again when it changes |
| GAUNTLET_API_KEYS | none | the same lines in the environment; with either, a call needs a key |
| GAUNTLET_METRICS_OPEN | false | true: /metrics needs no key, the worker's neither |
| GAUNTLET_REQUESTS_PER_MINUTE | 0 | of one key, or of one address where no keys are in use; per process; 0: no limit |
| GAUNTLET_REPORTS_PER_DAY | 0 | that one key may ask for, by the UTC day; 0: no limit |
| GAUNTLET_STORED_REPORTS | 0 | that one key may have in the job database; 0: no limit |
| GAUNTLET_CORS_ORIGINS | none | origins whose pages may ask, as https://example.org, with commas; or * |
| GAUNTLET_MAX_BODY | 33554432 | bytes of a request body |
| GAUNTLET_MAX_BODIES | 536870912 | bytes of the bodies of all requests that are being answered; more get 503 |
| GAUNTLET_BODY_SECONDS | 60 | seconds that the body of a request may take to arrive |
| GAUNTLET_MAX_IMAGES | 1024 | images of one request |
| GAUNTLET_PREDICT_QUEUE | 256 | predictions and generations that may wait; more get 429 |
| GAUNTLET_ATTACK_BUDGET | 200000 | price of one /attack: images x gradient steps x restarts x (1 + transfer models) |
| | | ... and of one /classify with smoothing: images x draws |
| GAUNTLET_ATTACK_DEADLINE | 60 | seconds that one of these may take, waiting included |
| GAUNTLET_ATTACK_SLOTS | 1 | how many of them compute at the same time |
| GAUNTLET_ATTACK_QUEUE | 8 | how many of them may wait for a slot; more get 429 |
| GAUNTLET_REPORT_QUEUE | 100 | reports that may wait for a worker; more get 429 |
| GAUNTLET_MAX_UPLOADS | 100 | models, and evaluation sets, that users may keep in the job database |
| GAUNTLET_UPLOAD_MEMORY | 2147483648 | bytes that the process of an uploaded model may take beyond its start |
| GAUNTLET_DRAIN_S | 25 | seconds that running requests have to finish after SIGTERM; new ones are refused |
| GAUNTLET_ACCESS_LOG | true | one log line per request |
| GAUNTLET_LOG_FORMAT | text | text, or json: one object a line, with the request's id |
"""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, IPvAnyAddress, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gauntlet.errors import GauntletError

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
    """See the table above; a wrong value is refused at start."""

    model_config = SettingsConfigDict(env_prefix="GAUNTLET_", frozen=True)

    host: IPvAnyAddress = IPv4Address("127.0.0.1")
    port: Port = 3000
    models: Path = ROOT / "models"
    data: Path = Path("data")
    state: Path = Path("state")
    database_url: str = ""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    local_workers: Annotated[int, Field(ge=0, le=64)] = 1
    worker_port: Annotated[int, Field(ge=0, le=65535)] = 0
    executor: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = ""
    keep_days: Annotated[float, Field(ge=0)] = 0.0
    open: bool = False
    keys_file: Path | None = None
    api_keys: str = Field(default="", repr=False)
    metrics_open: bool = False
    requests_per_minute: Limit = 0
    reports_per_day: Limit = 0
    stored_reports: Limit = 0
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_listed)] = ()
    max_body: Positive = 32 * 2**20
    max_bodies: Positive = 512 * 2**20
    body_seconds: Annotated[float, Field(gt=0)] = 60.0
    max_images: Positive = 1024
    predict_queue: Annotated[int, Field(ge=0)] = 256
    attack_budget: Positive = 200_000
    attack_deadline: Annotated[float, Field(gt=0, le=3000)] = 60.0
    attack_slots: Positive = 1
    attack_queue: Annotated[int, Field(ge=0)] = 8
    report_queue: Positive = 100
    max_uploads: Annotated[int, Field(ge=0)] = 100
    upload_memory: Annotated[int, Field(ge=2**28)] = 2**31
    drain_s: Positive = 25
    access_log: bool = True
    log_format: Literal["text", "json"] = "text"

    @model_validator(mode="before")
    @classmethod
    def _absolute(cls, values: dict[str, object]) -> dict[str, object]:
        """Paths hold in every process of the service, whatever its working directory."""
        state = Path(str(values.get("state", "state"))).resolve()
        database = values.get("database_url") or f"sqlite:///{state / 'jobs.sqlite'}"
        models = Path(str(values.get("models", ROOT / "models"))).resolve()
        data = Path(str(values.get("data", "data"))).resolve()
        keys = Path(str(values["keys_file"])).resolve() if values.get("keys_file") else None
        paths = {"models": models, "data": data, "state": state, "keys_file": keys}
        return {**values, **paths, "database_url": database}

    def export(self) -> dict[str, str]:
        """The variables that make every process started from here agree on the folders."""
        paths = {"MODELS": self.models, "DATA": self.data, "STATE": self.state, "KEYS_FILE": self.keys_file}
        return {f"GAUNTLET_{name}": str(path) for name, path in paths.items() if path is not None}

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
