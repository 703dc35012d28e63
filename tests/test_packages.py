"""Both distributions, built, built again from their own sources, and installed into empty environments."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from gauntlet.version import __version__
from tests import tiny

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"gauntlet_robustness": ROOT, "gauntlet_client": ROOT / "client"}
EXTRAS = {"cpu", "gpu", "export", "huggingface", "mlflow", "service", "store"}
LOCKED = ROOT / "requirements" / "dev.txt"
THREE_LINES = """
import numpy as np
from gauntlet import open_classifier, robustness_report, write_report
images, labels = np.zeros((4, 1, 8, 8), np.uint8), [0, 1, 2, 0]
model = open_classifier("model.onnx")
threats = [{"norm": "l2", "eps": [0.1]}]
write_report(robustness_report([model], images, labels, attacks=["ddn"], threats=threats), "r.json")
"""


def run(*command, cwd):
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def build(source, out, *targets):
    status, _, said = run(sys.executable, "-m", "hatchling", "build", "-d", out, *targets, cwd=source)
    assert status == 0, said


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder of the distributions; the wheels in it were built from the unpacked sdists, as pip does."""
    folder = tmp_path_factory.mktemp("dist")
    for name, source in NAMES.items():
        build(source, folder, "-t", "sdist")
        with tarfile.open(folder / f"{name}-{__version__}.tar.gz") as archive:
            archive.extractall(folder / "unpacked", filter="data")
        build(folder / "unpacked" / f"{name}-{__version__}", folder, "-t", "wheel")
    return folder


def wheel(folder, name):
    return folder / f"{name}-{__version__}-py3-none-any.whl"


def environment(folder):
    """An environment with nothing in it, and what installs into it."""
    uv = Path(sys.executable).parent / "uv"
    assert run(uv, "venv", "-q", "--python", sys.executable, folder, cwd=folder.parent)[0] == 0
    return folder / "bin", (uv, "pip", "install", "-q", "--python", folder / "bin" / "python")


def metadata(path):
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode()), set(archive.namelist())


def test_the_wheels_hold_what_they_should_and_say_what_they_need(built):
    said, names = metadata(wheel(built, "gauntlet_robustness"))
    assert {name.split("/")[0] for name in names} == {"gauntlet", f"gauntlet_robustness-{__version__}.dist-info"}
    assert {"gauntlet/py.typed", "gauntlet/report/template.html.j2"} <= names
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gauntlet").rglob("*.py")}
    assert sources <= names
    assert set(said.get_all("Provides-Extra")) == EXTRAS
    needed = [line for line in said.get_all("Requires-Dist") if "extra ==" not in line]
    assert not [line for line in needed if re.match(r"(torch|onnxruntime|nvidia|onnx2pytorch)", line)]
    said, names = metadata(wheel(built, "gauntlet_client"))
    assert "gauntlet_client/py.typed" in names
    assert said["Version"] == __version__
    assert {re.split(r"[<>=]", line)[0] for line in said.get_all("Requires-Dist")} == {"httpx", "pydantic"}


def test_what_is_installed_runs_without_the_repository(built, tmp_path):
    """Into an empty environment that borrows the libraries of this one; the slow test below installs them."""
    programs, install = environment(tmp_path / "empty")
    assert run(*install, "--no-deps", *built.glob("*.whl"), cwd=tmp_path)[0] == 0
    (site,) = (tmp_path / "empty").glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    assert run(programs / "gauntlet", "--version", cwd=tmp_path)[1] == f"gauntlet {__version__}\n"
    script = "import gauntlet_client, gauntlet; print(gauntlet.__file__, gauntlet_client.__file__)"
    status, said, _ = run(programs / "python", "-c", script, cwd=tmp_path)
    assert (status, said.count(str(site))) == (0, 2)


def test_the_citation_is_of_this_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.slow  # downloads what the machine does not have yet
def test_every_extra_is_there_with_what_it_needs(built, tmp_path):
    library = wheel(built, "gauntlet_robustness")
    programs, install = environment(tmp_path / "alone")
    assert run(*install, "-c", LOCKED, library, cwd=tmp_path)[0] == 0
    names = {path.name for path in (tmp_path / "alone").glob("lib/python*/site-packages/*")}
    assert not names & {"torch", "nvidia", "onnxruntime"}
    tiny.linear(tmp_path / "model")
    (tmp_path / "model.onnx").write_bytes((tmp_path / "model" / "model.onnx").read_bytes())
    status, _, said = run(programs / "python", "-c", THREE_LINES, cwd=tmp_path)
    assert status == 1
    assert "pip install 'gauntlet-robustness[gpu]'" in said
    for extras in ("cpu,export", "gpu,export,mlflow"):
        programs, install = environment(tmp_path / extras)
        status, _, said = run(*install, "-c", LOCKED, f"{library}[{extras}]", cwd=tmp_path)
        assert status == 0, said
        status, _, said = run(programs / "python", "-W", "ignore", "-c", THREE_LINES, cwd=tmp_path)
        assert status == 0, said
        found = run(programs / "gauntlet", "export", "r.json", "--out", "r.sarif", cwd=tmp_path)
        assert found[0] == 2, found  # four black images: their labels raise an alarm
        (tmp_path / "r.json").unlink()
