"""Labelled images choose the preprocessing that nobody declared, where they tell it clearly."""

import numpy as np
import pytest
import torch

from gauntlet import open_classifier, robustness_report
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.errors import InvalidInput
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.onnx_import.usual_preprocessing import candidates, undeclared
from gauntlet.report import preprocessing_choice, wording
from gauntlet.report.preprocessing_check import prepared
from tests.gauntlet.report.test_preprocessing_check import answers, pictures, saved


def labelled(path, channels, name):
    """Images in 8 bits, and what the file answers to them when they are prepared in this way."""
    x = (pictures(channels) * 255).round() / 255
    return x, answers(path, prepared(candidates(channels)[name], x))


CASES = [
    (channels, name)
    for channels in (1, 3)
    for name, usual in candidates(channels).items()
    if usual.declarable and name != "pixels in 0..1"
]


@pytest.mark.parametrize(("channels", "name"), CASES)
def test_the_right_one_is_taken(channels, name, tmp_path):
    path = saved(tmp_path, channels)
    x, y = labelled(path, channels, name)
    guessed = int((answers(path, x) == y).sum())
    model = open_classifier(path, images=x, labels=y)
    adoption = model.manifest.adoption
    found = int((model.predict(x).argmax(dim=1) == y).sum())
    assert adoption.trial.guess == (guessed, 200)
    assert found >= 190
    if guessed < 180:
        assert adoption.trial.taken == name
        assert adoption.trial.right[name] == (found, 200) == (200, 200)
        choice = adoption.choices["normalisation"]
        assert not choice.given
        assert choice.reason == f"chosen by the labelled images: {name}"
        told = wording.trial(adoption.trial)
        assert told.startswith(f"200 of 200 are classified correctly, {guessed} of 200 as guessed, ")


def test_the_guess_stays_where_nothing_is_clearly_better(tmp_path):
    path = saved(tmp_path, 1)
    x, y = labelled(path, 1, "pixels in 0..1")
    adoption = open_classifier(path, images=x, labels=y).manifest.adoption
    assert (adoption.trial.taken, adoption.trial.guess) == (None, (200, 200))
    assert adoption.choices == open_classifier(path).manifest.adoption.choices
    assert "pixels in 0..1" not in adoption.trial.right  # which is the guess
    assert "200 of 200 as guessed are classified correctly" in wording.trial(adoption.trial)


def test_what_a_file_beside_the_model_says_is_a_guess_that_images_check(tmp_path):
    path = saved(tmp_path, 3)
    x, y = labelled(path, 3, "pixels in 0..255, BGR")
    config = tmp_path / "preprocessor_config.json"
    config.write_text('{"image_mean": [0.4, 0.4, 0.4], "image_std": [0.2, 0.2, 0.2]}')
    stated = open_classifier(path).manifest.adoption
    assert stated.scale == pytest.approx([5, 5, 5])
    chosen = open_classifier(path, images=x, labels=y).manifest.adoption
    assert chosen.trial.taken == "pixels in 0..255, BGR"
    assert chosen.choices["normalisation"].reason == "chosen by the labelled images: pixels in 0..255, BGR"
    config.write_text('{"do_rescale": false, "do_normalize": false, "image_mean": 0, "do_flip_channel_order": true}')
    kept = open_classifier(path, images=x, labels=y).manifest.adoption
    assert (kept.trial.taken, kept.trial.guess) == (None, (200, 200))


def test_what_is_declared_is_not_chosen(tmp_path):
    path = saved(tmp_path, 3)
    x, y = labelled(path, 3, "pixels in 0..255, BGR")
    model = open_classifier(path, images=x, labels=y, pixel_range="0..255")
    assert model.manifest.adoption.choices["pixel_range"].reason == "declared"
    assert model.manifest.adoption.choices["channels"].value == "bgr"
    kept = open_classifier(path, images=x, labels=y, channels="rgb", pixel_range="0..1").manifest.adoption
    assert (kept.choices["channels"].given, kept.bgr) == (True, False)
    everything = {"channels": "rgb", "pixel_range": "0..1", "mean": (0.5,)}
    assert open_classifier(path, images=x, labels=y, **everything).manifest.adoption.trial is None


def test_a_declared_mean_takes_the_place_of_the_usual_ones():
    found = undeclared(ModelSettings(name="m", mean=(0.5,), std=(0.25,)), 1)
    assert list(found) == [f"pixels in {limits}, the declared mean and std" for limits in ("0..1", "-1..1", "0..255")]
    assert {(usual.mean, usual.std) for usual in found.values()} == {((0.5,), (0.25,))}


def test_images_of_one_class_choose_nothing(tmp_path):
    """A model that calls everything by one name would be right on all of them."""
    path, x = saved(tmp_path, 1), pictures(1)
    model = open_classifier(path, images=x, labels=torch.full((200,), 2))
    assert model.manifest.adoption.trial.taken is None


def test_images_are_drawn_from_all_parts_of_a_set():
    labels = np.sort(np.arange(1000, dtype=np.int64) % 10)
    images = EvalSet("sorted", np.zeros((1000, 1, 2, 2), np.uint8), labels, tuple("abcdefghij"), "", "")
    x, y = preprocessing_choice._spread(images, 200)
    assert (len(x), y.bincount().tolist()) == (200, [20] * 10)
    few = EvalSet("few", images.images[:3], labels[:3], images.classes, "", "")
    assert len(preprocessing_choice._spread(few, 200)[1]) == 3


def test_a_report_on_a_file_says_what_its_images_chose(tmp_path):
    path = saved(tmp_path, 1)
    x, y = labelled(path, 1, "pixels in 0..255")
    made = robustness_report([path], x, y, n=10, attacks=["noise"], threats=[{"norm": "l2", "eps": [0.1]}])
    assert made.models[0].preprocessing.taken == "pixels in 0..255"
    told = " ".join(finding.text for finding in wording.verdict(made))
    assert "of model, pixels in 0..255, was not declared but chosen by the labelled images: 200 of 200" in told


def test_images_of_another_shape_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="takes") as caught:
        open_classifier(saved(tmp_path, 1), images=np.zeros((2, 1, 9, 9)), labels=[0, 1])
    assert caught.value.field == "images"
