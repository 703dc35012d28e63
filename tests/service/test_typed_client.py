"""The client against a real server, and its answers against what the service says of itself."""

import subprocess
import sys
from pathlib import Path

import generate
import numpy as np
import pytest

from gauntlet_client import Client, ServiceError
from gauntlet_client.images import decoded
from tests import cases, tiny, zoo
from tests.service.conftest import ROOT, SHORT_REPORT, Server, arrays, pngs, wait_for


@pytest.fixture(scope="module")
def gauntlet(server: Server):
    with Client(f"http://127.0.0.1:{server.port}") as client:
        yield client


def test_its_answers_are_those_that_the_service_describes():
    assert generate.WRITTEN.read_text() == generate.generated(), "make client"


def test_it_predicts_generates_and_attacks(gauntlet: Client, tmp_path: Path):
    (image,) = pngs(1)
    file = tmp_path / "image.png"
    file.write_bytes(decoded(image))
    same = [image, decoded(image), file, arrays(1)[0], np.array(arrays(1)[0])]
    predictions = gauntlet.classify("linear", same).predictions
    assert len({(found.label, found.certified_radius) for found in predictions}) == 1
    (smoothed,) = gauntlet.classify("linear", [image], smoothing={"sigma": 0.1, "samples": 100}).predictions
    assert smoothed.certificate.method == "randomized smoothing"
    drawn = gauntlet.generate("gen", 3, seed=1)
    assert gauntlet.generate("gen", latents=drawn.latents).images == drawn.images
    (result,) = gauntlet.attack("linear", "ddn", [image], "l2", transfer_to=["conv"]).results
    assert result.success
    assert gauntlet.classify("linear", [result.image]).predictions[0].label == result.adversarial_label


def test_it_follows_a_report(gauntlet: Client):
    seen: list[float] = []
    accepted = gauntlet.submit(**SHORT_REPORT)
    report = gauntlet.wait(accepted.id, every=0.2, progress=lambda status: seen.append(status.progress))
    assert [model.name for model in report.models] == SHORT_REPORT["models"]
    assert seen == sorted(seen)
    assert "<html" in gauntlet.report_html(accepted.id)
    assert accepted.id in [item.id for item in gauntlet.reports("succeeded")]
    gauntlet.delete_report(accepted.id)
    with pytest.raises(ServiceError) as raised:
        gauntlet.report(accepted.id)
    assert raised.value.code == "unknown_report"


def test_it_brings_models_and_images(gauntlet: Client, tmp_path: Path):
    weights = [cases.FOLDER / "torch_default.onnx.data"]
    gauntlet.add_model(cases.FOLDER / "torch_default.onnx", weights=weights, name="second")
    gauntlet.delete_model("second")
    (tmp_path / "labels.txt").write_text("v\nw\nx\ny\nz\n")
    added = gauntlet.add_model(zoo.dense((1, 8, 8)), class_names=tmp_path / "labels.txt", name="brought")
    assert (added.manifest.name, added.manifest.classes) == ("brought", list("vwxyz"))
    assert "brought" in [model.name for model in gauntlet.models()]
    assert gauntlet.add_evalset(tiny.evalset(tmp_path / "some.npz"), name="some").uploaded
    assert "some" in [data.name for data in gauntlet.evalsets()]
    gauntlet.delete_model("brought")
    gauntlet.delete_evalset("some")
    assert "brought" not in [model.name for model in gauntlet.models()]
    wait_for(lambda: gauntlet.not_ready() == {})


@pytest.mark.slow
def test_it_needs_httpx_and_pydantic_alone(server: Server, tmp_path: Path):
    uv, python = Path(sys.executable).parent / "uv", tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, tmp_path / "venv"], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--python", python, ROOT / "client"], check=True)
    code = "import sys, gauntlet_client as g; print([m.name for m in g.Client(sys.argv[1]).models()])"
    told = subprocess.run([python, "-c", code, f"http://127.0.0.1:{server.port}"], capture_output=True, check=True)
    assert b"linear" in told.stdout
    listed = subprocess.run([uv, "pip", "freeze", "-q", "--python", python], capture_output=True, check=True, text=True)
    assert not {"torch", "numpy", "bentoml"} & {line.partition("==")[0] for line in listed.stdout.splitlines()}
