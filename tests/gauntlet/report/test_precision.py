"""A report on a float model and its 8-bit copy compares them: answers, robustness, transfer both ways."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from onnxruntime.quantization import QuantFormat, QuantType

from gauntlet import open_classifier
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.artifacts.manifest import STRAIGHT_THROUGH, Adoption
from gauntlet.report import precision, wording
from gauntlet.report.build import assemble, cells, measure
from gauntlet.report.model_results import Measured
from gauntlet.report.page import render
from gauntlet.report.schema import CellResult, Report, ReportRequest
from gauntlet.runtime.classifier import Classifier
from tests import quantised
from tests.gauntlet.report.conftest import N


def as_quantised(model: Classifier) -> SimpleNamespace:
    """The model, as if its file were quantised."""
    adoption = Adoption(source_sha256="0" * 64, source_opset=20, choices={}, quantised=True)
    manifest = model.manifest.model_copy(update={"adoption": adoption, "gradients": STRAIGHT_THROUGH})
    return SimpleNamespace(name=model.name, manifest=manifest, certificate=model.certificate, device=model.device)


@pytest.fixture(scope="module")
def compared(
    asked: ReportRequest,
    results: list[CellResult],
    models: Mapping[str, Classifier],
    evalsets: Mapping[str, EvalSet],
) -> Report:
    pair = {**models, "tiny-b": as_quantised(models["tiny-b"])}
    return assemble(asked, results, pair, evalsets["tiny"])  # type: ignore[arg-type]


def test_a_report_compares_them_without_being_asked(compared: Report, results: list[CellResult]) -> None:
    (pair,) = compared.precision
    assert (pair.original, pair.quantised, pair.gradients) == ("tiny-a", "tiny-b", "straight-through")
    assert [model.gradients for model in compared.models] == ["verified", "straight-through"]
    labels = [next(r.clean.labels for r in results if r.cell.key == f"{name}/clean") for name in ("tiny-a", "tiny-b")]  # type: ignore[union-attr]
    assert (pair.same_answer.k, pair.same_answer.n) == (sum(a == b for a, b in zip(*labels, strict=True)), N)
    assert [(entry.norm, entry.eps) for entry in pair.budgets] == [("l2", 0.1), ("l2", 0.4), ("linf", 0.05)]
    for model, side in zip(compared.models, ("original", "quantised"), strict=True):
        worst = [entry.accuracy for entry in model.robustness if entry.attack is None]
        assert [getattr(entry, side) for entry in pair.budgets] == worst


def test_broken_too_and_transfer_are_counted_image_by_image(
    compared: Report, results: list[CellResult], evalsets: Mapping[str, EvalSet]
) -> None:
    y, eps = evalsets["tiny"].labels[:N], 0.4
    measured = {name: Measured.of(name, results, y) for name in ("tiny-a", "tiny-b")}
    entry = next(entry for entry in compared.precision[0].budgets if entry.eps == eps)
    a, b = (measured[name].smallest("l2") for name in measured)
    right = {name: one.correct for name, one in measured.items()}
    among = right["tiny-a"] & right["tiny-b"] & (a <= eps)
    assert (entry.broken_too.k, entry.broken_too.n) == (int((among & (b <= eps)).sum()), int(among.sum()))
    for source, target, found in (("tiny-a", "tiny-b", entry.to_quantised), ("tiny-b", "tiny-a", entry.to_original)):
        fooled = {
            image
            for attack in measured[source].attacks.values()
            for image, distance, said in zip(
                attack.broken, attack.distances["l2"], attack.transfer[target], strict=True
            )
            if distance <= eps * (1 + 1e-6) and said != y[image] and right[target][image]
        }
        assert (found.k, found.n) == (len(fooled), int(right[target].sum()))
        assert found.k > 0


def test_the_page_and_the_verdict_say_it(compared: Report, report: Report) -> None:
    page = re.sub(r"\s+", " ", render(compared))
    assert "Float and quantised" in page
    assert "Gradients of tiny-b: straight-through." in page
    (told,) = [finding.text for finding in wording.verdict(compared) if "is quantised" in finding.text]
    same = compared.precision[0].same_answer
    assert f"({same.k} of {same.n}) of the clean images as tiny-a does" in told
    assert told.count("fool tiny-a on") == 2  # once a norm
    assert Report.model_validate_json(compared.model_dump_json()) == compared
    assert report.precision == []  # of two float models
    assert "Float and quantised" not in render(report)


def test_a_quantised_model_alone_is_compared_with_nothing(
    asked: ReportRequest, models: Mapping[str, Classifier]
) -> None:
    both = {name: as_quantised(model) for name, model in models.items()}
    assert precision.comparisons(asked, both, {}) == []


def test_the_original_is_the_float_model_that_answers_most_alike() -> None:
    def answering(labels: list[int]) -> Measured:
        clean = SimpleNamespace(labels=labels)
        return Measured(np.zeros(3, np.int64), clean, [], None, {}, None, None)  # type: ignore[arg-type]

    measured = {"q": answering([0, 1, 2]), "far": answering([2, 2, 2]), "near": answering([0, 1, 1])}
    assert precision._nearest(measured, "q", ["far", "near"]) == "near"


def test_what_breaks_a_float_model_breaks_its_eight_bit_copy(tmp_path: Path) -> None:
    data, kinds = quantised.network("relu"), {"activations": QuantType.QUInt8, "weights": QuantType.QInt8}
    (tmp_path / "net.onnx").write_bytes(data)
    int8 = quantised.quantise(data, tmp_path, form=QuantFormat.QDQ, per_channel=False, **kinds)
    (tmp_path / "net.int8.onnx").write_bytes(int8)
    models = {name: open_classifier(tmp_path / f"{name}.onnx") for name in ("net", "net.int8")}
    adoptions = [model.manifest.adoption for model in models.values()]
    assert [adoption.quantised for adoption in adoptions if adoption] == [False, True]
    x = np.random.default_rng(0).integers(0, 256, (12, *quantised.SHAPE), np.uint8)
    y = models["net"].predict(torch.from_numpy(x).float() / 255).argmax(dim=1).numpy()
    images = EvalSet("images", x, y, models["net"].manifest.classes, "", "0" * 64)
    request = ReportRequest.model_validate(
        {
            "models": list(models),
            "dataset": "images",
            "n": 12,
            "attacks": ["pgd"],
            "threats": [{"norm": "linf", "eps": [0.1]}],
        }
    )
    found = {cell.model: measure(cell, request, models, images).attack for cell in cells(request) if cell.attack}
    broken = {name: set(attack.broken) for name, attack in found.items() if attack}
    assert len(broken["net"]) >= 6
    assert broken["net"] <= broken["net.int8"]
