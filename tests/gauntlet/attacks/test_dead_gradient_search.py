"""Where the gradient is dead an attack finds what is there all the same, and near the true distance."""

import numpy as np
import pytest
import torch
from onnx import helper

from gauntlet.attacks import ATTACKS, Attack
from gauntlet.checks import white_box
from gauntlet.evaluation import referee
from gauntlet.threat import Threat
from tests import tiny
from tests.gauntlet.conftest import labels_of, opened

WIDTH = 0.1
"""Half of the plateau: the mean of an image's pixels may move so far around 0.5 before any logit does."""

PIXELS = 64
EXACT = {"linf": WIDTH, "l2": WIDTH * PIXELS**0.5, "l1": WIDTH * PIXELS}
MINIMUM_NORM = [
    (name, norm)
    for name, entry in ATTACKS.items()
    if entry.minimum_norm and entry.access == "gradient"
    for norm in sorted(entry.norms)
]
FIXED = [
    (name, norm)
    for name, entry in ATTACKS.items()
    if isinstance(entry, Attack) and not entry.minimum_norm and entry.access == "gradient" and name != "fgsm"
    for norm in sorted(entry.norms)
]


@pytest.fixture(scope="module")
def plateau(tmp_path_factory):
    """Class 0 while the mean of the pixels is near 0.5; both ReLUs are at rest there, and no logit has a gradient."""
    folder = tmp_path_factory.mktemp("models") / "plateau"
    mean = np.full(PIXELS, 1 / PIXELS, np.float32)
    weights = {
        "w": np.stack([mean, -mean]),
        "b": np.array([-0.5 - WIDTH / 2, 0.5 - WIDTH / 2], np.float32),
        "v": np.array([[0, 0], [1, 0], [0, 1]], np.float32),
        "c": np.array([WIDTH / 2, 0, 0], np.float32),
    }
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "v", "c"], ["y"], transB=1),
    ]
    tiny.save_graph(folder / "model.onnx", nodes, weights, tiny.SHAPE, (3,))
    return opened(tiny.save_manifest(folder, kind="classifier", input_shape=tiny.SHAPE, classes=tiny.CLASSES))


@pytest.fixture
def grey(images):
    x = images[:4]
    return x + 0.5 - x.mean(dim=(1, 2, 3), keepdim=True)


@pytest.mark.parametrize(("name", "norm"), MINIMUM_NORM)
def test_a_plateau_hides_no_distance(name, norm, plateau, grey):
    y = labels_of(plateau, grey)
    assert set(y.tolist()) == {0}
    found = referee.run(plateau, name, grey, y, Threat(norm))
    assert found.success.all()
    if norm in EXACT:
        ratio = found.minimal[norm] / EXACT[norm]
        assert float(ratio.min()) > 0.999
        assert float(ratio.median()) < 1.15


@pytest.mark.parametrize(("name", "norm"), FIXED)
def test_nor_an_example_within_eps(name, norm, plateau, grey):
    y = labels_of(plateau, grey)
    assert referee.run(plateau, name, grey, y, Threat(norm, 1.3 * EXACT[norm])).success.all()
    assert not referee.run(plateau, name, grey, y, Threat(norm, 0.98 * EXACT[norm])).success.any()


@pytest.mark.parametrize("name", ["fmn", "strongest", "ddn", "apgd"])
@pytest.mark.parametrize("label", [1, 2])
def test_nor_a_chosen_class(name, label, plateau, grey):
    entry = ATTACKS[name]
    norm = "l2" if name == "ddn" else "linf"
    eps = None if entry.minimum_norm else 1.3 * EXACT[norm]
    target = torch.full((len(grey),), label)
    found = referee.run(plateau, name, grey, labels_of(plateau, grey), Threat(norm, eps), target=target)
    assert found.success.all()
    assert set(found.adversarial_label.tolist()) == {label}


def test_an_image_alone_finds_what_it_finds_among_others(plateau, grey):
    y = labels_of(plateau, grey)
    whole = referee.run(plateau, "fmn", grey, y, Threat("linf"))
    for i in (0, 3):
        one = referee.run(plateau, "fmn", grey[i : i + 1], y[i : i + 1], Threat("linf"), index=torch.tensor([i]))
        assert float(one.linf[0]) == pytest.approx(float(whole.linf[i]), abs=1e-5)


def test_where_nothing_breaks_the_image_the_distance_is_infinite(tmp_path, grey):
    model = opened(
        tiny.linear(tmp_path / "constant", weight=np.zeros((3, 64), np.float32), bias=np.eye(3)[0].astype(np.float32))
    )
    found = referee.run(model, "fmn", grey, labels_of(model, grey), Threat("linf"))
    assert not found.success.any()
    assert found.minimal["linf"].isinf().all()


@pytest.mark.parametrize(("dead", "alarm"), [(0, False), (1, False), (3, True), (19, True)])
def test_the_checks_name_dead_gradients(dead, alarm, plateau, images):
    """Of 40 images; the others lie on the slope beside the plateau."""
    base = images.repeat(2, 1, 1, 1)[:40]
    centre = torch.where(torch.arange(40) < dead, 0.5, 0.57).view(-1, 1, 1, 1)
    x = base + centre - base.mean(dim=(1, 2, 3), keepdim=True)
    verdict = white_box.examine(plateau, x, labels_of(plateau, x), check_cancelled=lambda: None).verdicts[
        "gradients are there"
    ]
    assert verdict.passed is not alarm, verdict.measured
    assert verdict.measured.startswith(f"{dead} of 40")
