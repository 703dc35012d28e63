"""Every exported classifier has a temperature, and can be given another without being trained again."""

import json
from pathlib import Path

import pytest

from gauntlet.artifacts import artefact_folders
from training.__main__ import main

NAME = "fashion-mnist-standard"


@pytest.mark.usefixtures("source")
def test_a_classifier_is_exported_with_a_temperature(judge: Path) -> None:
    manifest = artefact_folders.load(judge / NAME).manifest
    assert manifest.temperature != 1
    assert manifest.metrics["calibration_error"].split == "test"
    assert "reliability.png" in manifest.files
    assert "(reliability.png)" in (judge / NAME / "card.md").read_text()


@pytest.mark.usefixtures("source")
def test_calibrating_again_changes_nothing_but_the_temperature(judge: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = judge / NAME
    before = artefact_folders.load(folder).manifest
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "temperature": 7.0}))
    assert main(["calibrate", NAME, "--out", str(judge)]) == 0
    assert f"{NAME}: temperature {before.temperature:.4g}" in capsys.readouterr().out
    assert artefact_folders.load(folder).manifest == before


def test_what_is_no_classifier_is_refused(judge: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = judge / NAME / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "training": None}))
    assert main(["calibrate", NAME, "--out", str(judge)]) == 1
    assert f"{NAME} is no classifier that was trained here" in capsys.readouterr().err
