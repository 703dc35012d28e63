"""Every recipe, from its command line to a folder that loads and answers as the network did."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.manifest import ClassifierManifest
from gauntlet.runtime.classifier import OnnxClassifier, open_model
from training.__main__ import ARTIFACTS, main, validated
from training.export import predict, session
from training.recipes import RECIPES
from training.run import Run

from .conftest import train


def assert_same(one: object, other: object) -> None:
    """Equal to the last bit, through all nested dicts and lists."""
    assert type(one) is type(other)
    if isinstance(one, dict) and isinstance(other, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


FAMILIES = (
    "fashion-mnist-lipschitz",
    "cifar10-penalty",
    "mnist-adversarial",
    "fashion-mnist-vae",
    "fashion-mnist-gan",
)
VARIANTS = (  # other networks and losses of the same families
    "cifar10-dcgan",
    "fashion-mnist-smoothed",
    "cifar10-conditional-gan",
    "fashion-mnist-lipschitz-control",
    "cifar10-lipschitz-paper",
    "cifar10-adversarial",
    "cifar10-vae",
    "cifar10-gan",
    "mnist-dcgan",
)


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("name", [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS)])
def test_every_family_trains_exports_and_serves(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if hasattr(RECIPES[name].config, "judge"):
        request.getfixturevalue("judge")
    assert train(name, tmp_path) == 0

    artefact = artefact_folders.load(tmp_path / "artifacts" / name)
    manifest = artefact.manifest
    assert manifest.training.seed == RECIPES[name].config.seed
    assert not manifest.training.data_official
    assert "not the official files" in (artefact.folder / "card.md").read_text()
    assert {"model.onnx", "card.md", "curves.png", "samples.png"} <= set(manifest.files)
    shape = manifest.input_shape if isinstance(manifest, ClassifierManifest) else (manifest.latent_dim,)
    x = torch.rand(5, *shape)
    served = session(artefact.model_path)
    together = predict(served, x)
    alone = np.concatenate([predict(served, row) for row in x.split(1)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    if not isinstance(manifest, ClassifierManifest):
        assert together.shape == (5, *manifest.output_shape)
        assert together.min() >= 0
        assert together.max() <= 1

    model = open_model(artefact, "cpu")
    if isinstance(model, OnnxClassifier):
        assert model.predict(x).argmax(1).tolist() == together.argmax(1).tolist()
    else:
        assert model.generate(x).shape == together.shape


@pytest.mark.usefixtures("source")
def test_a_smoothed_model_says_its_noise_and_what_is_certified_under_it(tmp_path: Path) -> None:
    name = "fashion-mnist-smoothed"
    assert train(name, tmp_path) == 0
    artefact = artefact_folders.load(tmp_path / "artifacts" / name)
    manifest = artefact.manifest
    assert isinstance(manifest, ClassifierManifest)
    assert manifest.sigma == manifest.training.config["sigma"] == 0.25
    names = ["smoothed_accuracy", *(f"smoothed_certified_accuracy_{eps}" for eps in ("36", "72", "108", "0.5"))]
    shares = [manifest.metrics[name].value for name in names]
    assert shares == sorted(shares, reverse=True)
    assert "CERTIFY, 100 draws" in (artefact.folder / "card.md").read_text()


def test_a_configuration_saved_before_a_hyper_parameter_existed_did_not_use_it() -> None:
    old = RECIPES["fashion-mnist-standard"].config.model_dump(mode="json")
    del old["sigma"], old["precision"]
    assert RECIPES["fashion-mnist-standard"].config.differences(old) == []
    assert "sigma" in RECIPES["fashion-mnist-smoothed"].config.differences(old)


@pytest.mark.usefixtures("source", "judge")
@pytest.mark.parametrize(
    "name",
    [
        "fashion-mnist-standard",
        "fashion-mnist-vae",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("cifar10-adversarial", "fashion-mnist-gan")),
    ],
)
def test_a_resumed_run_gives_the_same_weights(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(name, tmp_path, "--trial", epochs=2) == 0
    checkpoint = tmp_path / "runs" / f"{name}.trial" / "checkpoint.pt"
    unbroken = torch.load(checkpoint, weights_only=True)
    checkpoint.unlink()

    save = Run._save

    def interrupted(self: Run, parts: object, epoch: int) -> None:
        save(self, parts, epoch)  # type: ignore[arg-type]
        if epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "_save", interrupted)
    assert train(name, tmp_path, "--trial", epochs=2) == 130
    monkeypatch.setattr(Run, "_save", save)
    torch.rand(3)  # the state of the generator comes from the checkpoint, not from here
    assert train(name, tmp_path, "--trial", "--resume", epochs=2) == 0
    resumed = torch.load(checkpoint, weights_only=True)

    assert resumed["history"] == unbroken["history"]
    for part, state in unbroken["parts"].items():
        assert_same(resumed["parts"][part], state)


@pytest.mark.usefixtures("source")
def test_an_unfinished_run_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("fashion-mnist-standard", tmp_path, "--trial", epochs=2) == 0
    checkpoint = tmp_path / "runs" / "fashion-mnist-standard.trial" / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    torch.save(state | {"epoch": 1}, checkpoint)
    assert train("fashion-mnist-standard", tmp_path, "--trial", epochs=2) == 1
    assert "--resume" in capsys.readouterr().err
    assert train("fashion-mnist-standard", tmp_path, "--trial", "--resume", epochs=3) == 1
    assert "epochs=2" in capsys.readouterr().err


@pytest.mark.usefixtures("source")
def test_a_diverged_loss_stops_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("fashion-mnist-standard", tmp_path, "--set", "learning_rate=1e30", epochs=2) == 1
    assert "diverged" in capsys.readouterr().err
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.usefixtures("source")
def test_a_full_disk_stops_the_run_with_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs" / "fashion-mnist-standard.trial"
    folder.mkdir(parents=True)
    (folder / f"checkpoint.pt.{os.getpid()}").symlink_to("/dev/full")
    assert train("fashion-mnist-standard", tmp_path, "--trial") == 1
    assert "cannot be written" in capsys.readouterr().err
    assert not list(folder.glob("checkpoint.pt*"))


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("place", ["runs", "artifacts"])
def test_a_folder_that_cannot_be_made_is_named(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / place).write_text("a file is in the way")
    assert train("fashion-mnist-standard", tmp_path) == 1
    assert str(tmp_path / place) in capsys.readouterr().err


@pytest.mark.usefixtures("source", "judge")
def test_all_trains_what_is_missing_and_goes_on_where_it_was_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = RECIPES["fashion-mnist-standard"].config.model_copy(update={"epochs": 2, "filters": (4, 4)})
    few = {name: RECIPES["fashion-mnist-standard"]._replace(config=config) for name in ("fashion-mnist-standard",)}
    monkeypatch.setattr("training.__main__.RECIPES", few)
    words = ["all", "--device", "cpu", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "artifacts")]

    def interrupted(self: Run, loss: object) -> None:
        if len(self.history) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", interrupted)
        assert main(words) == 130  # the artefact that is there is of another configuration: it counts as missing
    assert "0 of 1 models are done" in capsys.readouterr().out
    assert main(words) == 0
    assert "0 of 1" in capsys.readouterr().out
    assert artefact_folders.load(tmp_path / "artifacts" / "fashion-mnist-standard").manifest.training.epochs == 2
    assert main(words) == 0
    assert "1 of 1 models are done; left: none" in capsys.readouterr().out


@pytest.mark.usefixtures("source")
def test_several_seeds_give_a_mean_and_a_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = RECIPES["fashion-mnist-standard"].config.model_copy(update={"epochs": 1, "filters": (4, 4)})
    changed = {"fashion-mnist-standard": RECIPES["fashion-mnist-standard"]._replace(config=config)}
    monkeypatch.setattr("training.__main__.RECIPES", changed)
    words = ["seeds", "fashion-mnist-standard", "--seeds", "2", "--device", "cpu", "--runs", str(tmp_path / "runs")]
    assert main(words) == 0
    first = capsys.readouterr().out
    lowest, highest = re.search(r"train_loss \| [\d.]+ \| ([\d.]+) \| ([\d.]+)", first).groups()
    assert float(lowest) < float(highest)
    assert {folder.name for folder in (tmp_path / "runs").iterdir()} == {
        "fashion-mnist-standard",  # no artefact of this recipe is there: its own seed is trained too
        "fashion-mnist-standard.seed1",
    }
    assert main(words) == 0  # finished runs are not repeated
    assert capsys.readouterr().out == first


def test_what_ships_stands_for_its_own_seed(tmp_path: Path) -> None:
    shipped, recipe = ARTIFACTS, RECIPES["fashion-mnist-lipschitz"]
    figures = validated(shipped / "fashion-mnist-lipschitz", recipe.config)
    assert figures["validation_accuracy"] == pytest.approx(0.9, abs=0.02)
    assert figures.keys() >= {"validation_certified_accuracy_36", "validation_certified_accuracy_108"}
    assert not validated(shipped / "fashion-mnist-lipschitz", recipe.config.model_copy(update={"seed": 1}))
    assert not validated(tmp_path, recipe.config)


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("name", ["fashion-mnist-adversarial", "fashion-mnist-smoothed"])
def test_what_chose_the_epoch_is_measured_on_what_ships(name: str) -> None:
    config = RECIPES[name].config
    assert 0 <= validated(ARTIFACTS / name, config)[f"validation_{config.selected_by}"] <= 1


@pytest.mark.usefixtures("source", "judge")
def test_the_table_is_recomputed_from_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    assert train("cifar10-lipschitz-paper", tmp_path) == 0
    capsys.readouterr()
    assert main(["table", "--quick", "--models", str(tmp_path / "artifacts")]) == 0
    lines = {line.split(" | ")[0].strip("| "): line for line in capsys.readouterr().out.splitlines()[2:]}
    assert lines.keys() == {"cifar10-lipschitz-paper", "fashion-mnist-standard"}
    manifest = artefact_folders.load(tmp_path / "artifacts" / "cifar10-lipschitz-paper").manifest
    assert f"| {100 * manifest.metrics['accuracy'].value:.2f} % " in lines["cifar10-lipschitz-paper"]
    assert lines["cifar10-lipschitz-paper"].endswith(f"| {manifest.metrics['calibration_error'].value:.4f} |")
    assert "none" in lines["fashion-mnist-standard"] or "0.00 %" in lines["fashion-mnist-standard"]


@pytest.mark.usefixtures("source")
def test_a_trial_never_opens_the_test_set(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte").unlink()
    assert train("fashion-mnist-lipschitz", tmp_path, "--trial") == 0
    printed = json.loads(capsys.readouterr().out)
    assert 0 <= printed["validation_certified_accuracy_36"] <= printed["validation_accuracy"]
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.usefixtures("source")
def test_a_generator_without_its_judge_says_so_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("fashion-mnist-gan", tmp_path) == 1
    assert "python -m training train fashion-mnist-standard" in capsys.readouterr().err


@pytest.mark.usefixtures("source")
def test_a_limit_of_time_ships_the_best_epoch_so_far(tmp_path: Path) -> None:
    assert train("cifar10-lipschitz-paper", tmp_path, "--limit", "0", epochs=5) == 0
    record = artefact_folders.load(tmp_path / "artifacts" / "cifar10-lipschitz-paper").manifest.training
    assert (record.epochs, record.selected_epoch, record.config["epochs"]) == (1, 1, 5)


@pytest.mark.usefixtures("source", "judge")
def test_a_generator_trains_in_bfloat16_and_ships_float32(tmp_path: Path) -> None:
    assert train("fashion-mnist-gan", tmp_path, "--trial", "--set", "precision=bfloat16") == 0
    saved = torch.load(tmp_path / "runs" / "fashion-mnist-gan.trial" / "checkpoint.pt", weights_only=True)
    assert {value.dtype for value in saved["parts"]["generator"].values() if value.is_floating_point()} == {
        torch.float32
    }


@pytest.mark.usefixtures("source")
def test_bfloat16_trains_weights_that_are_float32(tmp_path: Path) -> None:
    states = []
    for precision in ("float32", "bfloat16"):
        assert train("fashion-mnist-standard", tmp_path / precision, "--trial", "--set", f"precision={precision}") == 0
        run = tmp_path / precision / "runs" / "fashion-mnist-standard.trial"
        states.append(torch.load(run / "checkpoint.pt", weights_only=True)["parts"]["network"])
    exact, rounded = states
    assert all(value.dtype == exact[name].dtype for name, value in rounded.items())
    assert any(not torch.equal(value, exact[name]) for name, value in rounded.items())
    for name, value in rounded.items():
        torch.testing.assert_close(value, exact[name], rtol=0, atol=0.02)


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(
    "change",
    ["no_such_field=1", "width=wide", "eps=0.1", "sigma=0.25", "features=0", "batch_size=0", "precision=bfloat16"],
)
def test_a_wrong_hyper_parameter_is_named(change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("fashion-mnist-lipschitz", tmp_path, "--set", change) == 1
    assert change.partition("=")[0] in capsys.readouterr().err


@pytest.mark.usefixtures("source")
@pytest.mark.slow
def test_a_run_killed_in_mid_epoch_goes_on_as_if_unbroken(tmp_path: Path, root: Path) -> None:
    name = "mnist-adversarial"
    assert train(name, tmp_path / "whole", "--trial", epochs=3) == 0
    unbroken = torch.load(tmp_path / "whole" / "runs" / f"{name}.trial" / "checkpoint.pt", weights_only=True)

    killed = f"""
import os, signal
from training import data
from training.run import Run
from tests.training.conftest import train
from pathlib import Path
data.VALIDATION_IMAGES = 32
step = Run.step
def fatal(self, loss):
    step(self, loss)
    if len(self.history) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
Run.step = fatal
train({name!r}, Path({str(tmp_path / "broken")!r}), "--trial", epochs=3)
"""
    environment = {**os.environ, "GAUNTLET_DATA": str(root)}
    dead = subprocess.run([sys.executable, "-c", killed], env=environment, check=False, capture_output=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert train(name, tmp_path / "broken", "--trial", "--resume", epochs=3) == 0
    resumed = torch.load(tmp_path / "broken" / "runs" / f"{name}.trial" / "checkpoint.pt", weights_only=True)
    assert resumed["epoch"] == 3
    for part in ("history", "parts", "best"):
        assert_same(resumed[part], unbroken[part])
