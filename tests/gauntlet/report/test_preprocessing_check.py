"""A model opened for other pixels than it was trained on is an alarm that names the right ones."""

import itertools

import numpy as np
import pytest
import torch
from onnx import helper

from gauntlet import open_classifier
from gauntlet.onnx_import.usual_preprocessing import USUAL, candidates
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.report import preprocessing_check
from tests import tiny

SIDE = 8


def saved(folder, channels, seed=0):
    """A network whose decisions depend on contrast, level and order of colours: a ReLU of a random projection."""
    draw = np.random.default_rng(seed)
    pixels = channels * SIDE * SIDE
    weights = {
        "w": (draw.normal(size=(32, pixels)) / pixels**0.5).astype(np.float32),
        "b": draw.normal(size=32).astype(np.float32),
        "v": draw.normal(size=(3, 32)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "v"], ["y"], transB=1),
    ]
    return tiny.save_graph(folder / "model.onnx", nodes, weights, (channels, SIDE, SIDE), (3,))


def answers(path, x):
    """What the file itself says to images that are prepared already."""
    return open_classifier(path).predict(x).argmax(dim=1)  # opened as it stands: pixel * 1 + 0


def pictures(channels):
    return KeyedRandom.span(0, 0, 200).uniform(0, (channels, SIDE, SIDE))


CASES = [(channels, name) for channels in (1, 3) for name in candidates(channels) if name != "pixels in 0..1"]


@pytest.mark.parametrize(("channels", "name"), CASES)
def test_the_right_pixels_are_named(channels, name, tmp_path):
    path, x = saved(tmp_path, channels), pictures(channels)
    y = answers(path, preprocessing_check.prepared(candidates(channels)[name], x))
    (found,) = preprocessing_check.check(open_classifier(path), x, y)
    own = int((answers(path, x) == y).sum())
    assert found.measured.startswith(f"{own} of 200")
    assert found.passed is (own >= 190)
    assert found.passed or (f"200 with {name}" in found.measured and name in found.meaning)


def test_a_model_that_was_opened_as_it_was_trained_raises_no_alarm(tmp_path):
    path, x = saved(tmp_path, 3), pictures(3)
    for seed, name in itertools.product(range(2), ("pixels in -1..1", "pixels in 0..1")):
        y = answers(path, preprocessing_check.prepared(USUAL[name], x))
        wrong = KeyedRandom(seed, torch.arange(200)).uniform(0) < 0.2  # a fifth of the labels is another
        y = torch.where(wrong, (y + 1) % 3, y)
        opened = open_classifier(path, mean=[0.5], std=[0.5]) if "-1" in name else open_classifier(path)
        (found,) = preprocessing_check.check(opened, x, y)
        assert found.passed, found.measured


def test_what_was_declared_is_taken_off_first(tmp_path):
    """ModelSettings 0..255, trained on 0..1."""
    path, x = saved(tmp_path, 1), pictures(1)
    (found,) = preprocessing_check.check(open_classifier(path, pixel_range="0..255"), x, answers(path, x))
    assert not found.passed
    assert "200 with pixels in 0..1" in found.measured


def test_answers_that_are_not_numbers_are_not_right(tmp_path):
    nodes = [
        helper.make_node("Sqrt", ["x"], ["s"]),
        helper.make_node("Flatten", ["s"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["y"], transB=1),
    ]
    draw = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    path = tiny.save_graph(tmp_path / "model.onnx", nodes, {"w": draw}, tiny.SHAPE, (3,))
    model, x = open_classifier(path), pictures(1)
    (found,) = preprocessing_check.check(model, x, model.predict(x).argmax(dim=1))
    assert found.passed


def test_a_model_made_here_needs_no_such_check(linear, images):
    assert list(preprocessing_check.check(linear, images, linear.predict(images).argmax(dim=1))) == []
