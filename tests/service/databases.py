"""Job databases for tests: SQLite files, and a real PostgreSQL from Debian's package."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from service import sql
from tests.ports import free_port

USER = "gauntlet"


@contextmanager
def disposed_engines() -> Iterator[None]:
    """Every engine that is made meanwhile is closed in the end, of whoever keeps it."""
    engines: list[sa.Engine] = []
    create_engine = sql.create_engine

    def create(*given: Any) -> sa.Engine:
        engines.append(create_engine(*given))
        return engines[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sql, "create_engine", create)
        yield
    for engine in engines:
        engine.dispose()


def programs() -> Path | None:
    """Where PostgreSQL's are: Debian has only the clients in the path."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = shutil.which("initdb") or (installed[-1] if installed else None)
    return Path(found).resolve().parent if found else None


@dataclass
class Postgres:
    """One server on a port of its own. PostgreSQL does not run as root: then it is another user's."""

    folder: Path
    bin: Path
    port: int

    def _run(self, program: str, *arguments: str) -> None:
        user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        subprocess.run(
            [self.bin / program, "-D", self.folder / "data", *arguments], cwd=self.folder, check=True, **user
        )

    def create(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody", "nogroup")
        self._run("initdb", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -F"
        self._run("pg_ctl", "-o", options, "-l", str(self.folder / "log"), "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-m", "immediate", "-w", "stop")

    def database(self, name: str, template: str = "template1") -> str:
        """The URL of a new one."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"


def served() -> Iterator[Postgres]:
    """A server for as long as it is needed; skips where there is none."""
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="gauntlet-postgres-"))  # pytest's own folders are closed to other users
    server = Postgres(folder, found, free_port())
    server.create()
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)
