"""Verdicts on images: closed forms, counterexamples, and no attack inside a certificate."""

import numpy as np
import pytest
import torch

from gauntlet.__main__ import main
from gauntlet.artifacts import artefact_folders
from gauntlet.bounds import onnx_reader
from gauntlet.bounds.crown import linearise
from gauntlet.bounds.region import Region
from gauntlet.errors import InvalidInput
from gauntlet.evaluation import referee
from gauntlet.runtime import classifier
from gauntlet.threat import Threat
from gauntlet.verification.images import certify
from tests import tiny
from tests.gauntlet.conftest import exact_distances, labels_of


def opened(folder):
    return classifier.open_model(artefact_folders.load(folder), "cpu")


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    return opened(tiny.linear(tmp_path_factory.mktemp("models") / "linear"))


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory):
    return opened(tiny.convolutional(tmp_path_factory.mktemp("models") / "convolutional", scale=2.0))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_model_is_certified_up_to_its_closed_form(linear, images, norm):
    model = linear
    x = images[:3]
    y = labels_of(model, x)
    exact = exact_distances(model, x, y, norm)
    for row in range(len(x)):
        for share, status in ((0.99, "certified"), (1.02, "falsified")):
            eps = share * float(exact[row])
            [verdict] = certify(model, x[row : row + 1], y[row : row + 1], norm, eps, seconds=20)
            assert verdict.status == status


def test_the_largest_radius_of_a_linear_model_is_its_closed_form(linear, images):
    model = linear
    x = images[:2]
    exact = exact_distances(model, x, labels_of(model, x), "linf")
    for verdict, distance in zip(certify(model, x, None, "linf", None, seconds=20), exact, strict=True):
        assert 0.98 * float(distance) < verdict.eps <= float(distance)
        assert verdict.distance is not None
        assert verdict.distance >= float(distance) * (1 - 1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_attack_succeeds_inside_a_certified_radius(convolutional, images, norm):
    model = convolutional
    x = images[:3]
    y = labels_of(model, x)
    verdicts = certify(model, x, y, norm, None, seconds=6)
    for row, verdict in enumerate(verdicts):
        assert verdict.status == "certified"
        threat = Threat(norm, 0.999 * verdict.eps)
        assert not referee.run(model, "apgd-t", x[row : row + 1], y[row : row + 1], threat).success.any()


def test_a_counterexample_is_misclassified_by_onnx_runtime_within_eps(convolutional, images):
    model = convolutional
    y = labels_of(model, images)
    verdicts = certify(model, images[:8], y[:8], "linf", 0.3, seconds=8)
    broken = [verdict for verdict in verdicts if verdict.status == "falsified"]
    assert broken
    for verdict in broken:
        assert int(model.predict(verdict.counterexample[None]).argmax()) != verdict.label
        assert verdict.distance <= 0.3 + 1e-6


def test_a_misclassified_image_is_its_own_counterexample(linear, images):
    model = linear
    wrong = (labels_of(model, images[:1]) + 1) % 3
    [verdict] = certify(model, images[:1], wrong, "linf", 0.01)
    assert (verdict.status, verdict.method, verdict.distance) == ("falsified", "clean", 0.0)


@pytest.mark.parametrize("method", ["lipschitz", "interval", "crown", "alpha-crown", "branch-and-bound"])
def test_every_method_certifies_alone(linear, images, method):
    model = linear
    [verdict] = certify(model, images[:1], None, "linf", 1e-4, methods=[method], seconds=20)
    assert verdict.status == "certified"
    assert verdict.method in (method, "interval")


def test_a_lipschitz_constant_proves_at_most_its_ball(convolutional, images):
    """In Linf that of the cube inside."""
    model = convolutional
    z = model.predict(images[:1])
    radius = float(model.certificate.radius(z)[0])
    for norm, reach in (("l2", radius), ("linf", radius / 8)):
        for share, status in ((0.99, "certified"), (1.01, "unknown")):
            [verdict] = certify(model, images[:1], None, norm, share * reach, methods=["lipschitz"], seconds=5)
            assert verdict.status == status


def test_another_norm_and_another_method_are_refused(linear, images):
    with pytest.raises(InvalidInput, match="linf and l2, not in l1"):
        certify(linear, images[:1], None, "l1", 0.1)
    with pytest.raises(InvalidInput, match="unknown method 'magic'"):
        certify(linear, images[:1], None, "l2", 0.1, methods=["magic"])


@pytest.fixture
def root(tmp_path):
    tiny.linear(tmp_path / "artifacts" / "tiny-a")
    tiny.evalset(tmp_path / "evalsets" / "tiny.npz")
    return tmp_path


def run(root, *words):
    return main(["--root", str(root), "--device", "cpu", *words])


def test_the_command_prints_a_line_for_each_image_and_the_counts(root, capsys):
    assert run(root, "certify", "tiny-a", "--eps", "1/1000", "--n", "6", "--seconds", "20") == 0
    *lines, counts = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [*map(str, range(6))]
    statuses = [line.split("\t")[1] for line in lines]
    assert counts == ", ".join(f"{statuses.count(s)} {s}" for s in ("certified", "falsified", "unknown"))


def test_the_command_finds_largest_radii(root, capsys):
    assert run(root, "certify", "tiny-a", "--eps", "largest", "--n", "2", "--norm", "l2", "--seconds", "10") == 0
    assert "\tl2 " in capsys.readouterr().out


def test_the_command_takes_somebodys_own_file(root, tmp_path, capsys):
    path = tmp_path / "mine.onnx"
    path.write_bytes((root / "artifacts" / "tiny-a" / "model.onnx").read_bytes())
    arrays = {"images": np.zeros((3, 1, 8, 8), np.uint8) + 90, "labels": np.array([0, 1, 2])}
    np.savez(tmp_path / "mine.npz", **arrays)
    assert run(root, "certify", str(path), "--dataset", str(tmp_path / "mine.npz"), "--eps", "0.01", "--n", "3") == 0
    assert "unknown" in capsys.readouterr().out.splitlines()[-1]


def test_a_model_that_cannot_be_bounded_says_why(root, monkeypatch, capsys):
    monkeypatch.setattr(onnx_reader, "RULES", {})
    words = ("--norm", "l2", "--n", "2", "--seconds", "5")
    assert run(root, "certify", "tiny-a", "--eps", "1e-5", *words) == 0
    said = capsys.readouterr()
    assert "there is no rule for Gemm" in said.err
    assert said.out.count("\tlipschitz\t") == said.out.count("certified\t") > 0


def test_the_norm_of_a_ball_bounds_it(convolutional, images):
    """Points of the L2 ball and of the box stay inside bounds made for the ball."""
    network = convolutional.bounder.network
    region = Region.ball(images[:1].view(1, *network.input_shape), "l2", 0.7)
    rows = torch.eye(3, dtype=torch.float64)[:, None]
    low = linearise(network, region).lower(rows)
    draw = torch.Generator().manual_seed(0)
    steps = torch.randn(500, *network.input_shape, generator=draw, dtype=torch.float64)
    x = region.project(region.centre + 0.7 * steps / steps.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1))
    assert (network(x).flatten(1) >= low).all()
