"""Nothing leaves the machine: no name is looked up, no connection begun elsewhere, and no events are kept to be sent.

ONNX Runtime looks up its maker's host nine seconds after it is loaded, unless it is told not to before.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests import outgoing, zoo
from tests.service.conftest import ROOT, Server, arrays, build_models, wait_for
from tests.service.test_uploads import CLASSES, bring, packed

KEPT = ".cache/Microsoft"
"""Where ONNX Runtime keeps its events, in the home."""
LOADED = "import onnxruntime; print('ready', flush=True); input()"
USED = "import pathlib, sys; from tests.service.test_outgoing import use; use(pathlib.Path(sys.argv[1]))"


def use(folder: Path) -> None:
    """A service, its worker, the children of both, the command line. Says "ready", and ends when it hears a line."""
    build_models(folder)
    server = Server(folder, {})
    server.start()
    try:
        report_on_ones_own(server)
        command = [sys.executable, "-m", "gauntlet", "--root", str(folder / "models"), "attack", "linear", "pgd"]
        subprocess.run([*command, "--n", "2", "--eps", "0.1"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        print("ready", flush=True)
        input()
    finally:
        server.stop()


def report_on_ones_own(server: Server) -> None:
    """A model and images that a child has read, in a child of the service and in one of the worker."""
    client, name = server.client, "of-ones-own"
    images = packed(images=np.zeros((5, 8, 8), np.uint8), labels=np.arange(5), classes=np.array(CLASSES))
    for path, data, settings in (
        ("/models", zoo.dense((1, 8, 8)), {"classes": CLASSES}),
        ("/evalsets", images, {}),
    ):
        assert bring(client, data, path, name=name, **settings).status_code == 201
    assert client.post("/classify", json={"model": name, "images": arrays(1)}).status_code == 200
    body = {"models": [name], "dataset": name, "n": 5, "attacks": ["fgsm"], "threats": [{"norm": "l2", "eps": [0.2]}]}
    done = server.finished(server.submit(body))
    assert done["status"] == "succeeded", done
    for path in ("/models", "/evalsets"):
        wait_for(lambda path=path: client.delete(f"{path}/{name}").status_code == 204)


@contextmanager
def ready(command: list[str], home: Path) -> Iterator[None]:
    """A process that has said so. It may go on to its end afterwards."""
    home.mkdir(exist_ok=True)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=outgoing.environment(home), stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield
        process.communicate("\n")
    assert process.returncode == 0


def test_left_alone_it_keeps_events_in_the_home(tmp_path: Path):
    with ready([sys.executable, "-c", LOADED], tmp_path):
        pass
    assert (tmp_path / KEPT).exists()


def test_no_process_of_the_service_keeps_any(server: Server):
    report_on_ones_own(server)
    assert not (server.home / KEPT).exists()


@pytest.mark.slow
@pytest.mark.skipif(bool(outgoing.missing()), reason=outgoing.missing())
def test_nobody_else_is_looked_up_or_spoken_to(tmp_path: Path):
    """For as long as it takes a process beside it, which was left alone, to do so."""
    ours, alone = tmp_path / "ours.log", tmp_path / "alone.log"
    folder = tmp_path / "service"
    folder.mkdir()
    with (
        ready(outgoing.command(ours, sys.executable, "-c", USED, str(folder)), tmp_path / "ours"),
        ready(outgoing.command(alone, sys.executable, "-c", LOADED), tmp_path / "alone"),
    ):
        wait_for(lambda: "\n" in alone.read_text())
    assert alone.read_text().startswith("mobile.events.data.microsoft.com\n")
    assert ours.read_text() == ""
    assert not (tmp_path / "ours" / KEPT).exists()
