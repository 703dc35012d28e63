"""The script for a GPU keeps what is finished, whatever becomes of the rest, and packs what can be carried away."""

import argparse
import json
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from bench import gpu
from training.__main__ import configure, parser


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    folder = tmp_path / "large"
    folder.mkdir()
    metrics = {
        "accuracy": {"value": 0.5, "split": "test"},
        "validation_accuracy": {"value": 0.4, "split": "validation"},
    }
    (folder / "manifest.json").write_text(json.dumps({"metrics": metrics}))
    (folder / "model.onnx").write_bytes(bytes(1000))
    return folder


def test_an_artefact_is_packed_whole(artefact: Path, tmp_path: Path) -> None:
    said = gpu._pack(artefact, tmp_path)
    with zipfile.ZipFile(tmp_path / "large.zip") as archive:
        assert archive.namelist() == ["large/manifest.json", "large/model.onnx"]
        assert archive.read("large/model.onnx") == bytes(1000)
    assert said.endswith(": accuracy 0.5")


def test_what_is_too_large_to_be_carried_is_said(
    artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "LARGEST", 100)
    assert "MORE THAN 100 BYTES" in gpu._pack(artefact, tmp_path)


def test_a_step_that_fails_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[str] = []

    def train(step: gpu.Step, *_: object) -> str:
        begun.append(step.name)
        if len(begun) == 1:
            raise subprocess.TimeoutExpired("train", 1)
        return "done"

    monkeypatch.setattr(gpu, "check", lambda *_: "status 0")
    monkeypatch.setattr(gpu, "train", train)
    assert gpu.main(["--out", str(tmp_path / "out")]) == 1
    assert begun == [step.name for step in gpu.STEPS]
    first, second = (step.name for step in gpu.STEPS)
    lines = (tmp_path / "out" / "summary.txt").read_text().splitlines()
    assert lines == capsys.readouterr().out.splitlines()
    assert f"{first}: failed: out of time" in lines[1]
    assert lines[2].endswith(f"{second}: done")


def test_a_process_beyond_its_time_is_ended(tmp_path: Path) -> None:
    options = argparse.Namespace(out=tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        gpu._run(["sleep", "60"], options, gpu.STEPS[0], time.monotonic() + 0.01)


@pytest.mark.parametrize("step", gpu.STEPS, ids=lambda step: step.name)
@pytest.mark.parametrize("kind", ["settings", "tiny"])
def test_settings_are_of_the_recipe(step: gpu.Step, kind: str) -> None:
    words = [word for key, value in getattr(step, kind).items() for word in ("--set", f"{key}={json.dumps(value)}")]
    told = parser().parse_args(["train", step.recipe, "--name", step.name, *words])
    config = configure(step.recipe, {**dict(told.set), "name": step.name})
    assert config.model_dump(mode="json").items() >= json.loads(json.dumps(getattr(step, kind))).items()
