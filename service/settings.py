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
| GAUNTLET_THREADS | all cores | threads of one computation |
| GAUNTLET_LOCAL_WORKERS | 1 | 0: `python -m service.worker` runs elsewhere |
| GAUNTLET_WORKER_PORT | 0 | port of a worker's own /livez and /metrics, on GAUNTLET_HOST; 0: none |
| GAUNTLET_EXECUTOR | local | name of a worker; workers that share a database need different ones |
| GAUNTLET_MAX_BODY | 33554432 | bytes of a request body |
| GAUNTLET_MAX_IMAGES | 1024 | images of one request |
| GAUNTLET_ATTACK_BUDGET | 200000 | price of one /attack: images x gradient steps x restarts x (1 + transfer models) |
| | | ... and of one /classify with smoothing: images x draws |
| GAUNTLET_ATTACK_DEADLINE | 60 | seconds that one of these may take, waiting included |
| GAUNTLET_ATTACK_SLOTS | 1 | how many of them compute at the same time |
| GAUNTLET_ATTACK_QUEUE | 8 | how many of them may wait for a slot; more get 429 |
| GAUNTLET_REPORT_QUEUE | 100 | reports that may wait for a worker; more get 429 |
| GAUNTLET_DRAIN_S | 25 | seconds that running requests have to finish after SIGTERM; new ones are refused |
| GAUNTLET_ACCESS_LOG | true | one log line per request |
| GAUNTLET_LOG_FORMAT | text | text, or json: one object a line, with the request's id |
"""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, IPvAnyAddress, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gauntlet.errors import GauntletError

ROOT = Path(__file__).resolve().parent.parent

Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(ge=1)]


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
    local_workers: Annotated[int, Field(ge=0, le=1)] = 1
    worker_port: Annotated[int, Field(ge=0, le=65535)] = 0
    executor: Annotated[str, Field(min_length=1, max_length=64)] = "local"
    max_body: Positive = 32 * 2**20
    max_images: Positive = 1024
    attack_budget: Positive = 200_000
    attack_deadline: Annotated[float, Field(gt=0, le=3000)] = 60.0
    attack_slots: Positive = 1
    attack_queue: Annotated[int, Field(ge=0)] = 8
    report_queue: Positive = 100
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
        return {**values, "models": models, "data": data, "state": state, "database_url": database}

    def export(self) -> dict[str, str]:
        """The variables that make every process started from here agree on the folders."""
        folders = {"MODELS": self.models, "DATA": self.data, "STATE": self.state}
        return {f"GAUNTLET_{name}": str(folder) for name, folder in folders.items()}

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
