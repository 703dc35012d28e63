"""Every recipe, from its command line to a folder that loads and answers as the network did."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gauntlet import store
from gauntlet.manifest import ClassifierManifest
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


@pytest.mark.usefixtures("source", "judge")
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_exports_and_loads(name: str, tmp_path: Path) -> None:
    assert train(name, tmp_path) == 0

    artefact = store.load(tmp_path / "artifacts" / name)
    manifest = artefact.manifest
    assert manifest.training.seed == RECIPES[name].config.seed
    assert {"model.onnx", "card.md", "curves.png", "samples.png"} <= set(manifest.files)
    shape = manifest.input_shape if isinstance(manifest, ClassifierManifest) else (manifest.latent_dim,)
    x = torch.rand(5, *shape)
    served = session(artefact.model_path)
    together = predict(served, x)
    alone = np.concatenate([predict(served, row) for row in x.split(1)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    if not isinstance(manifest, ClassifierManifest):
        assert together.shape == (5, 1, 28, 28)
        assert together.min() >= 0
        assert together.max() <= 1


@pytest.mark.usefixtures("source", "judge")
@pytest.mark.parametrize("name", RECIPES)
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
@pytest.mark.parametrize("change", ["no_such_field=1", "width=wide"])
def test_a_wrong_hyper_parameter_is_named(change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("fashion-mnist-lipschitz", tmp_path, "--set", change) == 1
    assert change.partition("=")[0] in capsys.readouterr().err
