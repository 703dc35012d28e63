"""Planning a report: validation of the request, the cells that must be measured, and their cost."""

from collections.abc import Iterator, Mapping
from itertools import zip_longest

from gauntlet.artifacts.evaluation_sets import EvalSet, matched, missing
from gauntlet.artifacts.manifest import HasManifest
from gauntlet.attacks import ATTACKS
from gauntlet.checks import white_box
from gauntlet.errors import InvalidInput
from gauntlet.evaluation import referee
from gauntlet.norms import Norm
from gauntlet.report import bounded_radii, smoothed_classifier
from gauntlet.report.schema import Cell, ReportRequest, ThreatSpec


def validate(request: ReportRequest, models: Mapping[str, HasManifest], evalsets: Mapping[str, EvalSet]) -> None:
    """Raise InvalidInput, its ``field`` a path into the request, unless every part of it can be measured."""
    evalset = evalsets.get(request.dataset)
    if evalset is None:
        raise InvalidInput(missing(request.dataset, evalsets), "dataset")
    if request.n > len(evalset.labels):
        raise InvalidInput(f"{evalset.name} has {len(evalset.labels)} images, fewer than n = {request.n}", "n")
    for position, name in enumerate(request.models):
        if name not in models:
            raise InvalidInput(f"unknown classifier {name!r}; there are: {_names(models)}", f"models.{position}")
        _check_fit(models[name], models[request.models[0]], evalset, f"models.{position}")
        if request.smoothing is not None:
            request.smoothing.of(models[name].manifest.sigma, name)
    wanted = [threat.norm for threat in request.threats]
    for position, name in enumerate(request.attacks):
        if name not in ATTACKS:
            raise InvalidInput(f"unknown attack {name!r}; there are: {_names(ATTACKS)}", f"attacks.{position}")
        if not ATTACKS[name].norms.intersection(wanted):
            norms = " and ".join(sorted(ATTACKS[name].norms))
            raise InvalidInput(f"{name} works in {norms}, which no threat asks for", f"attacks.{position}")
        for model in request.models:
            referee.admit(models[model], name, f"attacks.{position}")
    for position, norm in enumerate(wanted):
        if not any(norm in ATTACKS[name].norms for name in request.attacks):
            raise InvalidInput(f"none of the attacks works in {norm}", f"threats.{position}.norm")


def _names(mapping: Mapping[str, object]) -> str:
    return ", ".join(sorted(mapping)) or "none"


def _check_fit(model: HasManifest, first: HasManifest, evalset: EvalSet, field: str) -> None:
    shape = tuple(evalset.images.shape[1:])
    if model.manifest.input_shape != shape:
        raise InvalidInput(f"{model.name} takes {model.manifest.input_shape}, {evalset.name} holds {shape}", field)
    try:
        matched(evalset, model.manifest.classes, model.name)
    except InvalidInput as error:
        raise InvalidInput(str(error), field) from error
    if model.manifest.classes != first.manifest.classes:
        pairs = enumerate(zip_longest(first.manifest.classes, model.manifest.classes, fillvalue="nothing"))
        label, (ours, theirs) = next((label, pair) for label, pair in pairs if pair[0] != pair[1])
        message = f"{first.name} and {model.name} do not have the same classes: {label} is {ours!r} and {theirs!r}"
        raise InvalidInput(f"{message}; those of your own model can be declared", field)


def aligned(request: ReportRequest, models: Mapping[str, HasManifest], evalset: EvalSet) -> EvalSet:
    """Return the images with the labels and class names of the models, which ``validate`` found to be equal."""
    first = models[request.models[0]]
    return matched(evalset, first.manifest.classes, first.name)


def cells(request: ReportRequest) -> list[Cell]:
    """Return what must be measured, in a fixed order. A minimum-norm attack runs once per norm, for every eps of it."""
    return [cell for model in request.models for cell in _cells_of(request, model)]


def _cells_of(request: ReportRequest, model: str) -> Iterator[Cell]:
    yield Cell(model=model, kind="clean", cost=request.n)
    yield Cell(model=model, kind="checks", cost=white_box.cost(min(request.n, request.checked or request.n)))
    if request.smoothing is not None:
        yield Cell(model=model, kind="smoothing", cost=smoothed_classifier.cost(request.smoothing, request.n))
    if request.bounds is not None:
        distances = bounded_distances(request)
        yield Cell(model=model, kind="bounds", cost=bounded_radii.cost(request.bounds, request.n, len(distances)))
    for threat in request.threats:
        for attack in request.attacks:
            if threat.norm in ATTACKS[attack].norms:
                yield from _attack_cells(request, model, attack, threat)


def bounded_distances(request: ReportRequest) -> list[tuple[Norm, float]]:
    """Return norms and eps that CROWN tries to prove: it does not compute a radius of its own."""
    return [(threat.norm, eps) for threat in request.threats if threat.norm in ("linf", "l2") for eps in threat.eps]


def _attack_cells(request: ReportRequest, model: str, name: str, threat: ThreatSpec) -> Iterator[Cell]:
    attack = ATTACKS[name]
    others = len(request.models) - 1  # each classifies the examples, to measure transfer
    cost = request.n * (attack.gradient_steps(attack.params()) + others)
    for eps in [None] if attack.sweeps(threat.norm) else sorted(threat.eps):
        yield Cell(model=model, attack=name, norm=threat.norm, eps=eps, cost=cost)


def cost(request: ReportRequest) -> int:
    """Return the passes through a network times images of the whole report: for its price and its estimated time."""
    return sum(cell.cost for cell in cells(request))
