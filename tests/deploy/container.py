"""An image run without a container engine: its own root file system and namespaces, by what Debian brings."""

import json
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.service.conftest import PATIENCE, ROOT, wait_for

HERE = ROOT / "deploy" / "container"
TOOLS = ("buildah", "unshare", "nsenter", "setpriv", "chroot", "ip")


def missing() -> str:
    """Why this machine cannot, if it cannot."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} not installed; on Debian: apt-get install buildah debootstrap iproute2 util-linux"
    return "" if os.geteuid() == 0 else "needs root"


def said(*command: str | Path) -> str:
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


@dataclass(frozen=True)
class Image:
    """An image of buildah's store, mounted."""

    name: str
    root: Path

    @classmethod
    @contextmanager
    def mounted(cls, name: str) -> Iterator["Image"]:
        container = said("buildah", "from", "--pull-never", name)
        try:
            yield cls(name, Path(said("buildah", "mount", container)))
        finally:
            said("buildah", "rm", container)

    def user(self) -> tuple[int, int, str]:
        """Number, group and home of the user that the image wants, by the image's own list."""
        wanted = self._config()["User"]
        lines = (self.root / "etc" / "passwd").read_text().splitlines()
        (found,) = (fields for fields in (line.split(":") for line in lines) if wanted in (fields[0], fields[2]))
        entry = pwd.struct_passwd(found)
        return int(entry.pw_uid), int(entry.pw_gid), entry.pw_dir

    def command(self, arguments: list[str], settings: dict[str, str]) -> list[str]:
        config = self._config()
        environment = [*config["Env"], f"HOME={self.user()[2]}", *(f"{k}={v}" for k, v in settings.items())]
        return [
            "/usr/bin/env",
            "-i",
            f"--chdir={config['WorkingDir']}",
            *environment,
            *config.get("Entrypoint", []),
            *arguments,
        ]

    def _config(self) -> dict[str, object]:
        return json.loads(said("buildah", "inspect", "--type", "image", self.name))["OCIv1"]["config"]


@dataclass(frozen=True)
class Container:
    """A process tree that sees nothing but the image, two folders it may write to, and its own loopback."""

    process: subprocess.Popen[bytes]
    init: psutil.Process
    log: Path

    @classmethod
    @contextmanager
    def running(
        cls, image: Image, state: Path, arguments: list[str], settings: dict[str, str]
    ) -> Iterator["Container"]:
        uid, gid, _ = image.user()
        state.mkdir(exist_ok=True)
        os.chown(state, uid, gid)
        spaces = ["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child"]
        inside = [HERE / "enter.sh", image.root, state, f"{uid}:{gid}", *image.command(arguments, settings)]
        log = state.parent / f"{state.name}.log"
        with (
            log.open("a") as file,
            subprocess.Popen(["unshare", *spaces, *inside], stdout=file, stderr=file) as process,
        ):
            try:
                (init,) = wait_for(psutil.Process(process.pid).children)
                yield cls(process, init, log)
            finally:
                process.kill()

    def within(self, *command: str) -> list[str]:
        """The command line that runs this one of the host's in the container's network."""
        return ["nsenter", f"--net=/proc/{self.init.pid}/ns/net", *command]

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """One of the image's own commands, run as its user."""
        ids = self.init.uids().real, self.init.gids().real
        enter = ["nsenter", f"--target={self.init.pid}", "--all", "--root", "--wd", f"--setuid={ids[0]}"]
        return subprocess.run(
            [*enter, f"--setgid={ids[1]}", *command], capture_output=True, text=True, check=False, timeout=PATIENCE
        )

    def processes(self) -> list[psutil.Process]:
        return [self.init, *self.init.children(recursive=True)]

    def kill(self, process: psutil.Process) -> int:
        """How the container ends when this one of its processes is killed."""
        tree = self.processes()
        process.send_signal(signal.SIGKILL)
        status = self.process.wait(PATIENCE)
        _, alive = psutil.wait_procs(tree, PATIENCE)
        assert not alive
        return status
