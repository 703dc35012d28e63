"""The referee: runs an attack within its budget and measures the images that it returns.

An attack only proposes images. The referee projects them into the threat, classifies them with ONNX Runtime, moves a
proposal that fails narrowly outward until the served model is fooled by more than rounding error, and only then counts
and measures: label and distances describe exactly the image that is returned.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from gauntlet.artifacts.manifest import HasManifest
from gauntlet.attacks import ATTACKS, Attack, Ensemble
from gauntlet.attacks.base import shortfall
from gauntlet.errors import InvalidInput
from gauntlet.evaluation import ensemble
from gauntlet.evaluation.outcome import Outcome
from gauntlet.evaluation.query_counter import Budget, CountedModel, run_within_budget
from gauntlet.norms import NORMS
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.predicted_labels import answered, labels
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import TINY, Threat, distances, per_sample
from gauntlet.unanswered_label import UNANSWERED

CLEAR = 1e-4
"""Required margin of a success, as a share of the clean shortfall; it must also exceed the model's rounding error.
Otherwise an image on the boundary would flip with the batch size. Scale and offset of the logits do not matter."""
OUTWARD = (1.0003, 1.001, 1.003, 1.01, 1.03, 1.1, 1.2, 1.4, 2, 3, 5, 8, 13, 20)
"""Factors by which the perturbation of a proposal is lengthened, in turn, before the proposal is rejected."""
INWARD = (0.9, 0.94, 0.97, 0.985, 1.0)
"""Factors of a perturbation tried before rounding to 8 bits, which may lengthen it; the largest that fits is used."""
CHUNK = 128  # batch size of an attack: limits memory; another size changes results only by rounding error
VALUES = 2**21  # limit of the values in a batch, unless one image has more: fewer than CHUNK large images
ROUNDING = 1e-6  # how far a float32 distance may exceed eps


def at_once(x: Tensor) -> int:
    """Return the batch size for an attack on images (n, C, H, W), or for a check of their gradients."""
    return min(CHUNK, max(1, VALUES // max(1, x[:1].numel())))


def check(
    attack: str, threat: Threat, params: Mapping[str, Any] | None, targeted: bool
) -> tuple[Attack | Ensemble, BaseModel]:
    """Return the attack and its parsed parameters. Raises InvalidInput for a combination that cannot run."""
    if attack not in ATTACKS:
        raise InvalidInput(f"unknown attack {attack!r}; there are {', '.join(ATTACKS)}", "attack")
    entry = ATTACKS[attack]
    if threat.norm not in entry.norms:
        raise InvalidInput(f"{attack} works in {' and '.join(sorted(entry.norms))}, not in {threat.norm}", "norm")
    if threat.eps is None and not entry.minimum_norm:
        raise InvalidInput(f"{attack} works at a fixed budget and needs eps", "eps")
    if targeted and not entry.targeted:
        raise InvalidInput(f"{attack} cannot aim at a class", "target_labels")
    try:
        return entry, entry.params.model_validate(dict(params or {}))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(["params", *map(str, first["loc"])])
        known = ", ".join(entry.params.model_fields) or "none"
        raise InvalidInput(f"{first['msg']} (parameters of {attack}: {known})", field) from error


def admit(model: HasManifest, attack: str, field: str = "attack") -> None:
    """Raise InvalidInput if the attack needs gradients and the model has none."""
    if ATTACKS[attack].access == "gradient" and not model.manifest.differentiable:
        others = ", ".join(name for name, entry in ATTACKS.items() if entry.access != "gradient")
        message = f"{attack} needs gradients, and {model.name} has {model.manifest.gradients}; there are {others}"
        raise InvalidInput(message, field)


def run(
    model: Classifier,
    attack: str,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    seed: int = 0,
    index: Tensor | None = None,
    params: Mapping[str, Any] | None = None,
    target: Tensor | None = None,
    eight_bit: bool = False,
    budget: Budget | None = None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Outcome:
    """Attack x (n, C, H, W) in [0, 1] with labels y (n,), or aim at the classes ``target`` (n,); measure the outcome.

    Untargeted success: classified as y before, as another class after. Targeted: as y before, as the target after.
    Logits with NaN or infinite values are no class, before or after: see ``gauntlet.predicted_labels``.
    ``index`` (n,) int64 is each image's position in its data set, by default 0, 1, ...; it keys the random numbers, so
    that a part of the data set gets the same ones as the whole.
    ``eight_bit`` rounds x to multiples of 1/255 and restricts the result to them. When the ``budget`` is used up, the
    attack stops and the successes so far are kept. ``check_cancelled`` runs before every evaluation and ends the run by
    raising. Raises InvalidInput if attack, threat, parameters and model do not fit together.
    """
    entry, parsed = check(attack, threat, params, target is not None)
    admit(model, attack)
    index = torch.arange(len(x)) if index is None else index
    if isinstance(entry, Ensemble):
        alone = partial(run, model, threat=threat, seed=seed, eight_bit=eight_bit, check_cancelled=check_cancelled)
        members, again = entry.members(threat, target is not None), entry.again(threat)
        return ensemble.in_turn(alone, members, x, y, threat, index=index, target=target, again=again, budget=budget)
    start = time.perf_counter()
    x = (x * 255).round() / 255 if eight_bit else x
    clean = model.predict(x)
    clean_label = labels(clean)
    correct = (clean_label == y) & (clean_label != UNANSWERED)
    y = y.clamp_min(0)  # UNANSWERED cannot index logits; such an image is not attacked
    goal, targeted = (y, False) if target is None else (target, True)
    queries = torch.zeros(len(x), dtype=torch.int64, device=model.device)
    proposal = x.clone()
    rows = correct.nonzero().squeeze(1)
    finished = torch.ones_like(correct)
    device = model.device
    reachable = threat.on_grid() if eight_bit else threat  # so that an early success stays within eps after rounding
    attack_chunk = entry.prepared(parsed, reachable, targeted)
    for part in torch.split(rows, at_once(x)) if len(rows) else ():
        origin, aims = x[part].to(device), goal[part].to(device)
        meter = CountedModel(model.twin, queries, part.to(device), check_cancelled)
        keys = KeyedRandom(seed, index[part].to(device))
        if budget is None:
            found = attack_chunk(meter, origin, aims, generator=keys)
        else:
            found, finished[part] = run_within_budget(attack_chunk, meter, origin, aims, keys, budget, threat, targeted)
        proposal[part] = found.detach().cpu()
    clear = (CLEAR * shortfall(clean, goal, targeted).abs()).clamp_min(model.certificate.rounding)
    images, logits, success = _Judge(model, x, goal, targeted, threat, correct, clear, eight_bit).settle(proposal)
    minimal = dict.fromkeys(NORMS, torch.full((len(x),), torch.nan, dtype=torch.float64))
    if entry.minimum_norm:
        free = _Judge(model, x, goal, targeted, Threat(threat.norm), correct, clear, eight_bit=False)
        exact, _, won = free.settle(proposal)
        minimal = {norm: torch.where(won, size, torch.inf) for norm, size in distances(x, exact).items()}
    return Outcome(
        images=images,
        clean_label=clean_label,
        adversarial_label=labels(logits),
        correct=correct,
        success=success,
        lacking=shortfall(logits, goal, targeted) / shortfall(clean, goal, targeted).abs().clamp_min(TINY),
        minimal=minimal,
        queries=queries.cpu(),
        finished=finished,
        by=[attack] * len(x),
        seconds=time.perf_counter() - start,
        **distances(x, images),
    )


@dataclass(frozen=True)
class _Judge:
    """Decides with ONNX Runtime which proposals succeed inside the threat."""

    model: Classifier
    x: Tensor
    goal: Tensor
    targeted: bool
    threat: Threat
    correct: Tensor
    clear: Tensor  # required margin of a success, in logits
    eight_bit: bool

    def settle(self, proposal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the final images, their logits, and which of them are successes.

        A proposal that fools the model, but by too small a margin or only without 8-bit rounding, is moved outward in
        steps. For an image that never succeeds, the proposal projected into the threat is returned.
        """
        images = self._admit(self.x, proposal)
        logits = self.model.predict(images)
        all_rows = torch.arange(len(images))
        success = self._won(images, logits, all_rows)
        exact = self.model.predict(self.threat.project(self.x, proposal)) if self.eight_bit else logits
        promising = self.correct & (shortfall(exact, self.goal, self.targeted) < self.clear)
        for scale in OUTWARD:
            rows = (promising & ~success).nonzero().squeeze(1)
            if len(rows) == 0:
                break
            origin = self.x[rows]
            moved = self._admit(origin, (origin + scale * (proposal[rows] - origin)).clamp(0, 1))
            again = self.model.predict(moved)
            won = self._won(moved, again, rows)
            images[rows[won]], logits[rows[won]], success[rows[won]] = moved[won], again[won], True
        return images, logits, success

    def _admit(self, origin: Tensor, proposal: Tensor) -> Tensor:
        """Return the proposal projected into the threat, and onto the 8-bit grid if ``eight_bit``."""
        inside = self.threat.project(origin, proposal)
        if not self.eight_bit:
            return inside.clone()
        rounded_back = torch.where(inside > origin, (inside * 255 + 1e-3).floor(), (inside * 255 - 1e-3).ceil())
        found = rounded_back.clamp(0, 255) / 255
        for share in INWARD:
            nearest = ((origin + share * (inside - origin)) * 255).round() / 255
            fits = self.threat.size(origin, nearest) <= self.threat.radius
            found = torch.where(per_sample(fits, origin), nearest, found)
        return found

    def _won(self, images: Tensor, logits: Tensor, rows: Tensor) -> Tensor:
        inside = self.threat.size(self.x[rows], images) <= self.threat.radius + ROUNDING
        return (
            self.correct[rows]
            & inside
            & answered(logits)
            & (shortfall(logits, self.goal[rows], self.targeted) < -self.clear[rows])
        )
