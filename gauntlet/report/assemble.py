"""Assembling a report from the results of all cells. Runs no network: the same results give the same report."""

import math
import platform
from collections.abc import Mapping, Sequence

import numpy as np

from gauntlet import installed_packages
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.attacks import ATTACKS
from gauntlet.norms import Norm
from gauntlet.report import consistency, precision, probabilities, standards, statistics
from gauntlet.report.curves import bands_of, curves_of
from gauntlet.report.measure import EXAMPLES
from gauntlet.report.model_results import Measured, minimum, misled
from gauntlet.report.per_class import by_class, weakest
from gauntlet.report.plan import cells
from gauntlet.report.records import BoundsOfMethod, BoundsReport, SmoothedReport
from gauntlet.report.schema import (
    AttackRecord,
    Cell,
    CellResult,
    CertificateRecord,
    Effort,
    EvalSetRecord,
    ExampleSet,
    ModelReport,
    Perturbation,
    Report,
    ReportRequest,
    Robustness,
    TransferMatrix,
    TransferRate,
)
from gauntlet.report.statistics import Bools, Floats
from gauntlet.runtime.classifier import Classifier
from gauntlet.version import __version__

BINS = 40
LISTED = 20  # contradicted images and classes that are listed, at most
EXAMPLE_VALUES = 2**16  # pixel values of all examples of a set, at most, unless a single one has more
PACKAGES = ("numpy", "onnx", "onnx2pytorch", installed_packages.onnxruntime(), "torch")
JACOBIAN_SLACK = 1 + 1e-4  # the Jacobian is computed in float32


def assemble(
    request: ReportRequest, results: Sequence[CellResult], models: Mapping[str, Classifier], evalset: EvalSet
) -> Report:
    """Return the report of the results of ``cells(request)``, in any order. Raises ValueError if one is missing."""
    by_cell = {result.cell: result for result in results}
    plan = cells(request)
    missing = [cell.key for cell in plan if cell not in by_cell]
    if missing:
        raise ValueError(f"not measured: {', '.join(missing)}")
    ordered = [by_cell[cell] for cell in plan]
    y = evalset.labels[: request.n]
    measured = {name: Measured.of(name, ordered, y) for name in request.models}
    shared = np.logical_and.reduce([model.correct for model in measured.values()])
    edges = {threat.norm: _edges(measured, threat.norm) for threat in request.threats}
    return Report(
        request=request,
        evalset=EvalSetRecord(
            name=evalset.name,
            sha256=evalset.sha256,
            licence=evalset.licence,
            classes=list(evalset.classes),
            available=len(evalset.labels),
        ),
        attacks=[_attack_record(name) for name in request.attacks],
        models=[_model_report(request, models[name], measured, shared, edges) for name in request.models],
        shared_correct=int(shared.sum()),
        edges=edges,
        transfer=_transfer(request, measured),
        precision=precision.comparisons(request, models, measured),
        standards=standards.answers(request, [models[name].certificate.lipschitz for name in request.models]),
        versions=_versions(),
        effort=[_effort(result) for result in ordered],
        seconds=round(sum(result.seconds for result in ordered), 3),
    )


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "gauntlet": __version__, **installed_packages.versions(PACKAGES)}


def _attack_record(name: str) -> AttackRecord:
    attack = ATTACKS[name]
    return AttackRecord(
        name=name,
        summary=attack.summary,
        minimum_norm=attack.minimum_norm,
        access=attack.access,
        params=attack.settings,
    )


def _effort(result: CellResult) -> Effort:
    queries = result.n if result.smoothed is None else result.cell.cost
    queries = queries if result.attack is None else result.attack.queries
    by = {} if result.attack is None or set(result.attack.by) == {result.cell.attack} else result.attack.by
    return Effort(cell=result.cell, queries=queries, seconds=result.seconds, by=by)


def _model_report(
    request: ReportRequest,
    model: Classifier,
    all_measured: Mapping[str, Measured],
    shared: Bools,
    edges: Mapping[Norm, Sequence[float]],
) -> ModelReport:
    adoption = model.manifest.adoption
    norms, measured = [threat.norm for threat in request.threats], all_measured[model.name]
    certificate, curves = _certificate(model, measured), curves_of(request, measured, model.manifest.input_shape)
    checks = [*measured.checks, *consistency.checks(request, model.name, all_measured, certificate, curves)]
    if model.manifest.differentiable:
        checks.append(consistency.iterative_attacks_ran(request, measured))
    classes = by_class(request, measured, len(model.manifest.classes), model.manifest.input_shape)
    listed = weakest(classes, LISTED)
    return ModelReport(
        name=model.name,
        family=model.manifest.family,
        sha256=model.manifest.model_sha256,
        device=model.device.type,
        source=None if adoption is None else adoption.source,
        source_sha256=None if adoption is None else adoption.source_sha256,
        preprocessing=None if adoption is None else adoption.trial,
        gradients=model.manifest.gradients,
        clean=statistics.rate(measured.correct),
        top5=None if measured.clean.top5 is None else statistics.rate(np.asarray(measured.clean.top5)),
        margins=statistics.distribution(np.asarray([m for m in measured.clean.margins if m is not None])),
        checks=checks,
        certificate=certificate,
        smoothed=_smoothed(measured),
        calibration=probabilities.calibration_report(measured.clean.probabilities, measured.correct),
        bounds=_bounds(measured),
        bands=bands_of(request, measured, model.manifest.input_shape),
        robustness=_robustness(request, measured),
        perturbations=[entry for norm in norms for entry in _perturbations(measured, norm, shared, edges[norm])],
        curves=curves,
        classes=listed,
        classes_left_out=len(classes) - len(listed),
        examples=_examples(measured, examples_shown(math.prod(model.manifest.input_shape))),
    )


def _certificate(model: Classifier, measured: Measured) -> CertificateRecord:
    proved = model.certificate
    certified = measured.correct & (measured.radii > 0)
    distances = measured.measured_l2()
    contradicted = np.flatnonzero(measured.contradicted).tolist()
    steepest = max(measured.clean.slopes)
    return CertificateRecord(
        lipschitz=proved.lipschitz,
        method=proved.method,
        reason=proved.reason,
        slopes=statistics.distribution(np.asarray(measured.clean.slopes)),
        steepest=steepest,
        ratio=statistics.distribution(distances[certified] / measured.radii[certified]) if certified.any() else None,
        contradictions=len(contradicted),
        contradicted=contradicted[:LISTED],
        refuted=proved.lipschitz is not None and steepest > proved.lipschitz * JACOBIAN_SLACK,
    )


def _smoothed(measured: Measured) -> SmoothedReport | None:
    smoothed = measured.smoothed
    if smoothed is None:
        return None
    labels, radii = np.asarray(smoothed.labels), np.asarray(smoothed.radii)
    right = labels == measured.y[: len(labels)]
    return SmoothedReport(
        smoothing=smoothed.smoothing,
        accuracy=statistics.rate(right),
        abstained=int((labels < 0).sum()),
        radii=statistics.distribution(radii[right]),
    )


def _bounds(measured: Measured) -> BoundsReport | None:
    if measured.bounds is None:
        return None
    methods = []
    for proved in measured.bounds.radii:
        radii = np.asarray(proved.radii)
        distribution = statistics.distribution(radii[measured.correct & (radii > 0)])
        methods.append(BoundsOfMethod(norm=proved.norm, method=proved.method, radii=distribution))
    return BoundsReport(reason=measured.bounds.reason, methods=methods)


def _robustness(request: ReportRequest, measured: Measured) -> list[Robustness]:
    """Return, per norm and eps, an entry for the worst of the attacks, then one per attack that ran in the norm."""
    entries = []
    for threat in request.threats:
        worst = measured.smallest(threat.norm)
        for eps in sorted(threat.eps):
            entries.append(_robustness_at(measured, threat.norm, eps, None, worst))
            entries += [
                _robustness_at(measured, threat.norm, eps, cell.attack, measured.distance(cell, threat.norm))
                for cell in measured.attacks
                if cell.norm == threat.norm and cell.eps in (None, eps)
            ]
    return entries


def _robustness_at(measured: Measured, norm: Norm, eps: float, attack: str | None, distances: Floats) -> Robustness:
    broken = distances <= eps
    return Robustness(
        norm=norm,
        eps=eps,
        attack=attack,
        accuracy=statistics.rate(~broken),
        success=statistics.rate(broken, among=measured.correct),
    )


def _smallest_by(measured: Measured, norm: Norm) -> dict[str | None, Floats]:
    """Return distances (n,) per minimum-norm attack and, under None, the smallest of them; empty without any."""
    by_attack: dict[str | None, Floats] = {
        cell.attack: measured.distance(cell, norm) for cell in measured.minimum_norm_cells(norm)
    }
    return {None: minimum(by_attack.values()), **by_attack} if by_attack else {}


def _perturbations(measured: Measured, norm: Norm, shared: Bools, edges: Sequence[float]) -> list[Perturbation]:
    return [
        Perturbation(
            norm=norm,
            attack=attack,
            own=statistics.distribution(sizes[measured.correct]),
            shared=statistics.distribution(sizes[shared]),
            histogram=np.histogram(sizes[measured.correct & np.isfinite(sizes)], bins=np.asarray(edges))[0].tolist(),
        )
        for attack, sizes in _smallest_by(measured, norm).items()
    ]


def _edges(measured: Mapping[str, Measured], norm: Norm) -> list[float]:
    """Return the edges of the histogram bins, common to all models, from 0 to the largest distance found."""
    distances = [smallest for model in measured.values() for smallest in _smallest_by(model, norm).values()]
    largest = [smallest[np.isfinite(smallest)].max(initial=0.0) for smallest in distances]
    top = max(largest, default=0.0) or 1.0
    return [float(f"{edge:.6g}") for edge in np.linspace(0.0, top * (1 + 1e-5), BINS + 1)]


def examples_shown(values: int) -> int:
    """Return how many examples of a set to show, for images of ``values`` numbers: limits page and JSON to a few MB."""
    return max(1, min(EXAMPLES, EXAMPLE_VALUES // values))


def _examples(measured: Measured, limit: int) -> list[ExampleSet]:
    """Return one set per attack and norm, from the smallest budget at which the attack broke an image."""
    sets: dict[tuple[str, Norm], ExampleSet] = {}
    for cell, attack in measured.attacks.items():  # budgets in rising order
        if attack.examples and cell.attack and cell.norm:
            entry = ExampleSet(attack=cell.attack, norm=cell.norm, eps=cell.eps, examples=attack.examples[:limit])
            sets.setdefault((cell.attack, cell.norm), entry)
    return list(sets.values())


def _transfer(request: ReportRequest, measured: Mapping[str, Measured]) -> list[TransferMatrix]:
    if len(request.models) < 2:
        return []
    matrices = []
    for first in measured[request.models[0]].attacks:  # every model has the same attacks
        rates = [
            _transfer_rate(measured, source, target, cell)
            for source in request.models
            for cell in [first.model_copy(update={"model": source})]
            for target in request.models
            if target != source
        ]
        assert first.attack is not None
        assert first.norm is not None
        matrices.append(TransferMatrix(attack=first.attack, norm=first.norm, eps=first.eps, rates=rates))
    return matrices


def _transfer_rate(measured: Mapping[str, Measured], source: str, target: str, cell: Cell) -> TransferRate:
    attack = measured[source].attacks[cell]
    broken = np.asarray(attack.broken, dtype=np.int64)
    fooled = misled(attack.transfer[target], measured[target].y[broken])
    among = measured[target].correct[broken]
    return TransferRate(source=source, target=target, fooled=statistics.rate(fooled, among=among))
