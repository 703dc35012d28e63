"""Planning a report that fits a time: how many images, which attacks and how many checked images there is time for.

The number of images is reduced before attacks are left out; checks get at most a fifth. What is left out is reported.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.attacks import ATTACKS
from gauntlet.checks import white_box
from gauntlet.report import plan
from gauntlet.report.schema import ReportRequest
from gauntlet.runtime.classifier import Classifier

FEWEST = 16  # images: if there is time for fewer, attacks are left out
CHECKS = 0.2  # share of the time for the checks, at most
SPARE = 0.15  # share of the time for work without an estimate: opening models, slopes, pictures
TIMED = 4  # images in a timed pass


@dataclass(frozen=True)
class Planned:
    """A request that fits the time, without a budget; sentences on what it leaves out; its estimated seconds."""

    request: ReportRequest
    left_out: tuple[str, ...]
    seconds: float = 0.0


def planned(request: ReportRequest, models: Mapping[str, Classifier], images: EvalSet) -> Planned:
    """Return as much of the request as its ``budget_seconds`` allow, estimated from timed passes of each model.

    A request without a budget is returned unchanged.
    """
    if request.budget_seconds is None:
        return Planned(request, ())
    x = torch.from_numpy(images.part(0, min(request.n, TIMED))[0])
    return fit(request, [seconds_per_pass(models[name], x) for name in request.models], request.budget_seconds)


def seconds_per_pass(model: Classifier, x: Tensor) -> float:
    """Return the seconds of a forward and backward pass per image; x (n, C, H, W) are images of the report."""
    x = x[:TIMED].to(model.device)
    gradients = model.manifest.differentiable
    times = []
    for _ in range(3):  # the first one warms up
        started = time.perf_counter()
        with torch.set_grad_enabled(gradients):
            point = x.clone().requires_grad_(gradients)
            logits = model.twin(point).sum()
        if gradients:
            torch.autograd.grad(logits, point)
        times.append(time.perf_counter() - started)
    return min(times[1:]) / len(x)


def fit(request: ReportRequest, per_pass: Sequence[float], seconds: float) -> Planned:
    """Return as much of the request as ``seconds`` allow; ``per_pass`` has the seconds of a pass for each model.

    At least one image is attacked and one is checked, however long that takes.
    """
    passes = seconds * (1 - SPARE) / sum(per_pass)
    n, attacks = _affordable(request, request.attacks, passes), list(request.attacks)
    while n < min(FEWEST, request.n) and (dearest := _dearest(request, attacks)) is not None:
        attacks.remove(dearest)
        n = _affordable(request, attacks, passes)
    checked = max(1, min(n, white_box.EXAMINED, int(CHECKS * passes / white_box.cost(1))))
    made = request.model_copy(update={"n": max(1, n), "attacks": attacks, "checked": checked, "budget_seconds": None})
    estimate = plan.cost(made) * sum(per_pass) / len(per_pass)
    return Planned(made, tuple(_left_out(request, made, seconds)), estimate)


def _affordable(request: ReportRequest, attacks: Sequence[str], passes: float) -> int:
    """Return how many images that many passes of a model allow, after the share of the checks."""
    alone = request.model_copy(update={"n": 1, "attacks": list(attacks), "checked": 1, "models": request.models[:1]})
    each = sum(cell.cost for cell in plan.cells(alone) if cell.kind != "checks")
    return min(request.n, int((1 - CHECKS) * passes / each))


def _dearest(request: ReportRequest, attacks: Sequence[str]) -> str | None:
    """Return the attack to leave out next: the costliest without which each norm still has one; None without one."""
    norms = [threat.norm for threat in request.threats]

    def can_be_spared(name: str) -> bool:
        others = [other for other in attacks if other != name]
        return all(any(norm in ATTACKS[other].norms for other in others) for norm in norms)

    def cost(name: str) -> int:
        times = sum(
            1 if ATTACKS[name].sweeps(threat.norm) else len(threat.eps)
            for threat in request.threats
            if threat.norm in ATTACKS[name].norms
        )
        return times * ATTACKS[name].gradient_steps(ATTACKS[name].params())

    return max(filter(can_be_spared, attacks), key=cost, default=None)


def _left_out(requested: ReportRequest, made: ReportRequest, seconds: float) -> list[str]:
    """Return a sentence on what ``made`` lacks of the request; none if it lacks nothing."""
    found = []
    if made.n < requested.n:
        found.append(f"{requested.n - made.n} of {requested.n} images")
    if dropped := [name for name in requested.attacks if name not in made.attacks]:
        found.append(f"the attacks {', '.join(dropped)}")
    if made.checked is not None and made.checked < min(requested.n, white_box.EXAMINED):
        found.append(f"checks on more than the first {made.checked} images")
    return [f"To end within {seconds:g} s, this was left out: {'; '.join(found)}."] if found else []
