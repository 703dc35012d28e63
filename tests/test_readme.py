"""The README and the guide to the service: every command, run as printed (but for the port) on shipped models."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from bench import reference
from gauntlet.attacks import ATTACKS
from tests import tiny
from tests.service.conftest import PATIENCE, Server

ROOT = Path(__file__).resolve().parents[1]
README, SERVICE = (ROOT / "README.md").read_text(), (ROOT / "docs" / "how-to" / "service.md").read_text()
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", SERVICE, re.DOTALL)
CURLS = {re.search(r":3000(/[a-z0-9/-]+)", text)[1]: text for language, text in BLOCKS if language == "bash"}
OIP = "/v2/models/fashion-mnist-vae/infer"
WITH_CLIENT = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "client")))}
PYTHONS = [text for language, text in BLOCKS if language == "python"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("readme"), {"models": ROOT / "models", "api_workers": 1})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def run(server, tmp_path):
    """Runs a block in an empty folder that has only the repository's docs; gives what it printed."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")

    def run(text: str, *command: str) -> str:
        text = text.replace("127.0.0.1:3000", f"127.0.0.1:{server.port}")
        done = subprocess.run(
            [*command, text],
            cwd=tmp_path,
            env=WITH_CLIENT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def curl(run, route):
    return run(CURLS[route], "bash", "-euo", "pipefail", "-c")


def test_the_answer_in_the_readme_is_what_is_printed(run):
    ((command, printed),) = re.findall(r"```bash\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL)
    assert run(command, "bash", "-euo", "pipefail", "-c") == printed


def test_the_python_of_the_readme_reports_on_an_own_model(tmp_path):
    tiny.evalset(tmp_path / "images.npz", n=8)
    tiny.linear(tmp_path / "model").joinpath("model.onnx").rename(tmp_path / "model.onnx")
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    command = [sys.executable, "-W", "ignore", "-c", f"{example}print(*missed)"]
    done = subprocess.run(command, cwd=tmp_path, env=WITH_CLIENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("model: robust(linf)@0.03>=0.5: ")
    assert {"report.html", "report.sarif"} <= {path.name for path in tmp_path.iterdir()}


def test_the_readme_is_short_and_its_table_names_every_attack():
    lines = README.splitlines()
    assert len(lines) <= 130
    assert max(map(len, lines)) <= 120
    rows = [line for line in lines if "arxiv.org" in line or "a baseline" in line]
    assert rows == list(map(reference.attack_line, ATTACKS))


def test_classify(run):
    (prediction,) = json.loads(curl(run, "/classify"))["predictions"]
    assert prediction["class_name"] == "Ankle boot"
    assert prediction["certified_radius"] > 0


def test_certify(run):
    (result,) = json.loads(curl(run, "/certify"))["results"]
    assert result["status"] == "certified"
    assert 0 < result["radius"] < result["distance"]


def test_attack(run):
    (result,) = json.loads(curl(run, "/attack"))["results"]
    assert result["success"]
    assert 0 < result["l2"] < 3
    assert result["transfer"].keys() == {"fashion-mnist-lipschitz"}


def test_generate(run, tmp_path):
    curl(run, "/generate")
    with Image.open(tmp_path / "clothes.png") as sheet:
        assert sheet.size == (4 * 28, 4 * 28)


def test_open_inference_protocol(run):
    (images,) = json.loads(curl(run, OIP))["outputs"]
    assert (images["name"], images["shape"]) == ("images", [1, 1, 28, 28])


@pytest.mark.slow
def test_report(run, server):
    accepted = json.loads(curl(run, "/robustness-report"))
    report = server.finished(accepted["id"])["report"]
    assert report["request"]["n"] == 20


@pytest.mark.slow
def test_python(run):
    (example,) = PYTHONS
    printed = run(example, sys.executable, "-W", "ignore", "-c")
    assert "Pullover" in printed
    assert "fooled by a perturbation" in printed


def test_python_of_the_client_alone(run):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "client" / "README.md").read_text(), re.DOTALL)
    assert run(example, sys.executable, "-W", "ignore", "-c").startswith("Ankle boot whatever happens within L2 0.54")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("health", "serves fashion-mnist-lipschitz"),
        pytest.param("paper_claims", "old adversarial examples right", marks=pytest.mark.slow),
        pytest.param("security_review", "these fool fashion-mnist-lipschitz", marks=pytest.mark.slow),
        pytest.param("ci_gate", "checks: all passed", marks=pytest.mark.slow),
    ],
)
def test_examples(name, told, server, tmp_path):
    """As their first lines say."""
    script = ROOT / "examples" / f"{name}.py"
    command = re.search(r"^python examples/\w+\.py(.*)$", script.read_text(), re.MULTILINE)[1]
    url = (
        [f"http://127.0.0.1:{server.port}"] if name == "paper_claims" else ["--url", f"http://127.0.0.1:{server.port}"]
    )
    done = subprocess.run(
        [sys.executable, script, *command.split(), *url],
        cwd=tmp_path,
        env=WITH_CLIENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert told in done.stdout


def test_every_block_is_tested():
    assert CURLS.keys() == {"/classify", "/certify", "/attack", "/generate", "/robustness-report", OIP}
