"""`bentoml build`, `bentoml containerize`, and the image at work: no network, not root, two folders to write to.

IMAGE=gauntlet:cpu checks an image that buildah has already, instead of building one.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import test_readme
from tests.deploy import container
from tests.deploy.container import HERE, Container, Image
from tests.service.conftest import PATIENCE, ROOT, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.container,
    pytest.mark.skipif(bool(container.missing()), reason=container.missing()),
]

BASE = "docker.io/library/python:3.11-slim"
SERVICE = ["python", "-m", "service"]
SETTINGS = {"GAUNTLET_STATE": "/var/lib/gauntlet", "BENTOML_HOME": "/tmp/bentoml"}


def built(folder: Path) -> str:
    """The name of the image that `bentoml containerize` makes of the bento that `bentoml build` makes of this tree."""
    environment = {**os.environ, "BUILDER": "buildah", "BENTOML_HOME": str(folder / "bentoml")}
    if subprocess.run(["buildah", "pull", "--policy=missing", "--quiet", BASE], check=False).returncode:
        subprocess.run([HERE / "base.sh", folder / "base"], check=True)
    subprocess.run([HERE / "build.sh", "cuda", "isolation=chroot"], check=True, env=environment)
    return "gauntlet:cuda"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    name = os.environ.get("IMAGE") or built(tmp_path_factory.mktemp("build"))
    with Image.mounted(name) as image:
        yield image


@pytest.fixture
def running(image: Image, tmp_path: Path) -> Iterator[Container]:
    with Container.running(image, tmp_path / "state", SERVICE, SETTINGS) as running:
        look = running.within("curl", "--silent", "--fail", "--output", "/dev/null", "http://127.0.0.1:3000/readyz")
        ended = running.process.poll
        wait_for(lambda: subprocess.run(look, check=False).returncode == 0 or ended() is not None, every=0.5)
        assert ended() is None, running.log.read_text()
        yield running


def test_it_answers_as_the_readme_says_confined(running: Container, tmp_path: Path):
    assert all(process.uids().real == process.uids().effective == 1034 for process in running.processes())
    links = subprocess.run(running.within("ip", "-oneline", "link"), capture_output=True, text=True, check=True).stdout
    assert [line.split(": ")[1] for line in links.splitlines()] == ["lo"]
    for path in ("/x", "/home/bentoml/x", "/home/bentoml/bento/src/x", "/app/.venv/x"):
        assert "Read-only file system" in running.execute("touch", path).stderr
    for path in ("/tmp/x", "/var/lib/gauntlet/x"):
        assert running.execute("touch", path).returncode == 0

    (tmp_path / "docs").symlink_to(ROOT / "docs")
    calls = [(sys.executable, "-W", "ignore", "-c", text) for text in test_readme.PYTHONS]  # waits for its report
    calls += [("bash", "-euo", "pipefail", "-c", text) for text in test_readme.CURLS.values()]
    for call in calls:
        client = test_readme.WITH_CLIENT
        done = subprocess.run(
            running.within(*call), cwd=tmp_path, env=client, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert '"error":{' not in done.stdout

    running.init.send_signal(signal.SIGTERM)
    assert running.process.wait(PATIENCE) == 0
    assert "Traceback" not in running.log.read_text()


def test_killed_it_ends_with_a_failure(running: Container):
    assert running.kill(running.init) != 0
