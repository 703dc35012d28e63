"""What is attacked is what is served, or it is not opened at all."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from onnx import helper

from gauntlet.artifacts import artefact_folders
from gauntlet.bounds.builder import Unboundable
from gauntlet.errors import ArtefactError, DeviceError
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.runtime import classifier, core_count
from tests import tiny
from tests.gauntlet.conftest import exact_distances


def test_the_twin_gives_the_served_logits(convolutional, images):
    assert torch.allclose(convolutional.twin(images), convolutional.predict(images), atol=1e-5)
    assert not any(parameter.requires_grad for parameter in convolutional.twin.parameters())


def test_any_batch_size(convolutional, images):
    many = images.repeat(30, 1, 1, 1)  # more than one chunk
    assert torch.equal(convolutional.predict(many)[: len(images)], convolutional.predict(images))
    assert convolutional.predict(images[:0]).shape == (0, 3)


def test_generator_gives_images_in_the_box(tmp_path):
    model = classifier.open_model(artefact_folders.load(tiny.generator(tmp_path / "g")), "cpu")
    images = model.generate(torch.randn(7, 4))
    assert images.shape == (7, *tiny.SHAPE)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1


def test_cuda_demanded_and_absent(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="GAUNTLET_DEVICE"):
        classifier.open_model(artefact_folders.load(tiny.linear(tmp_path / "m")), "cuda")


class Distorted(torch.nn.Module):
    """A twin that is not what is served."""

    def __init__(self, twin, distort):
        super().__init__()
        self.twin, self.distort = twin, distort

    def forward(self, x):
        return self.distort(self.twin, x)


@pytest.mark.parametrize(
    ("distort", "reason"),
    [
        (lambda twin, x: twin(x) + 0.1, "disagree by"),
        (lambda twin, x: twin(x + 0.5 * (x - x.detach())), "finite differences"),  # same value, half as steep again
    ],
)
def test_a_twin_with_other_logits_or_gradients_is_refused(tmp_path, monkeypatch, distort, reason):
    honest = classifier.open_twin
    monkeypatch.setattr(classifier, "open_twin", lambda path: Distorted(honest(path), distort))
    with pytest.raises(ArtefactError, match=reason):
        classifier.open_model(artefact_folders.load(tiny.linear(tmp_path / "m")), "cpu")


def test_a_graph_without_gradient_is_refused(tmp_path):
    """Rounding the pixels gives a gradient of zero or none, and a decision that jumps."""
    nodes = [
        helper.make_node("Mul", ["x", "big"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["round"]),
        helper.make_node("Cast", ["round"], ["int"], to=6),
        helper.make_node("Cast", ["int"], ["back"], to=1),
        helper.make_node("Flatten", ["back"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1),
    ]
    weights = {
        "big": np.array(255, np.float32),
        "w": np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32),
        "b": np.zeros(3, np.float32),
    }
    folder = tmp_path / "rounded"
    tiny.save_graph(folder / "model.onnx", nodes, weights, tiny.SHAPE, (3,))
    tiny.save_manifest(folder, kind="classifier", input_shape=tiny.SHAPE, classes=tiny.CLASSES)
    with pytest.raises(ArtefactError, match="gradient"):
        classifier.open_model(artefact_folders.load(folder), "cpu")


def test_a_certificate_allows_for_the_rounding_of_what_is_served(tmp_path, images):
    """(x + 1000) - 1000 rounds the pixels away: the constant would be true of real numbers, not of what is served."""
    nodes = [
        helper.make_node("Add", ["x", "far"], ["away"]),
        helper.make_node("Sub", ["away", "far"], ["back"]),
        helper.make_node("Flatten", ["back"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1),
    ]
    weights = {
        "far": np.array(1e3, np.float32),
        "w": np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32),
        "b": np.zeros(3, np.float32),
    }
    folder = tmp_path / "rounded"
    tiny.save_graph(folder / "model.onnx", nodes, weights, tiny.SHAPE, (3,))
    tiny.save_manifest(folder, kind="classifier", input_shape=tiny.SHAPE, classes=tiny.CLASSES)
    model = classifier.open_model(artefact_folders.load(folder), "cpu")
    logits = model.predict(images)
    exact = exact_distances(model, images, logits.argmax(dim=1), "l2")
    assert (model.certificate.radius(logits) / exact.numpy()).max() < 0.999
    assert model.certificate.rounding > 1e-4


def test_a_model_whose_answers_depend_on_the_batch_is_refused(tmp_path):
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("ReduceMean", ["flat", "axis"], ["mean"]),
        helper.make_node("Sub", ["flat", "mean"], ["centred"]),
        helper.make_node("Gemm", ["centred", "w", "b"], ["y"], transB=1),
    ]
    weights = {
        "axis": np.array([0], np.int64),
        "w": np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32),
        "b": np.zeros(3, np.float32),
    }
    folder = tmp_path / "neighbours"
    tiny.save_graph(folder / "model.onnx", nodes, weights, tiny.SHAPE, (3,))
    tiny.save_manifest(folder, kind="classifier", input_shape=tiny.SHAPE, classes=tiny.CLASSES)
    with pytest.raises(ArtefactError, match="rest of the batch"):
        classifier.open_model(artefact_folders.load(folder), "cpu")


@pytest.mark.parametrize(("asked", "threads"), [(3, 3), (0, 5)])
def test_torch_and_onnx_runtime_compute_on_the_same_cores(monkeypatch, asked, threads):
    monkeypatch.setattr(core_count, "available", lambda: 5)
    classifier.use_threads(asked)
    assert torch.get_num_threads() == classifier.THREAD_POOL.size == threads


def test_an_answer_is_the_same_to_the_last_bit_on_any_number_of_cores(convolutional):
    x = KeyedRandom.span(0, 0, 100).uniform(0, convolutional.manifest.input_shape)
    answers = []
    for count in (1, 2, 3, 7):
        classifier.use_threads(count)
        answers.append(convolutional.predict(x))
    assert all(torch.equal(answer, answers[0]) for answer in answers)


def test_a_session_needs_no_torch(tmp_path):
    path = tiny.linear(tmp_path / "m") / "model.onnx"
    code = (
        "import sys, numpy; from pathlib import Path; from gauntlet.runtime.session import Session\n"
        f"print(Session(Path({str(path)!r})).run(numpy.zeros((3, 1, 8, 8))).shape, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(3, 3) False"


def test_bounds_are_of_the_file_that_was_opened(tmp_path):
    folder = tiny.linear(tmp_path / "linear")
    model = classifier.open_model(artefact_folders.load(folder), "cpu")
    (folder / "model.onnx").unlink()
    assert model.bounder.network.input_shape[-3:] == model.manifest.input_shape


def test_no_bounds_of_a_file_that_was_changed_since(tmp_path):
    folder = tiny.linear(tmp_path / "linear")
    model = classifier.open_model(artefact_folders.load(folder), "cpu")
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(Unboundable, match="changed since it was opened"):
        model.bounder  # noqa: B018
