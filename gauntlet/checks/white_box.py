"""Is the evaluation itself to be believed? The checks that every report makes of each of its models.

After Carlini et al., "On Evaluating Adversarial Robustness", arXiv 1902.06705, and Pintor et al., "Indicators of Attack
Failure", arXiv 2106.09947. ``gather`` runs the networks; the judgements are pure functions of what it found.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gauntlet.artifacts.manifest import STRAIGHT_THROUGH
from gauntlet.attacks import price
from gauntlet.attacks.base import margin
from gauntlet.evaluation import referee
from gauntlet.evaluation.outcome import Outcome
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.predicted_labels import labels
from gauntlet.runtime.classifier import Classifier
from gauntlet.runtime.straight_through import PARITY
from gauntlet.runtime.twin import doubled
from gauntlet.threat import TINY, Threat, l2, unit
from gauntlet.unanswered_label import UNANSWERED

EXAMINED = 64
"""Images that are looked at, the first ones that are classified correctly."""

TYPICAL = 0.05  # distance per root of the number of values, where no attack finds a distance to go by
VANISHED = 1e-6  # a gradient's largest entry, beside that of the median image
DEAD = 0.03  # share of the images whose gradient may vanish: these attacks cannot see
STEP = 0.25  # of that distance: how far a gradient is followed to see whether it leads anywhere

NEAREST: tuple[str, float | None, dict[str, Any]] = ("ddn", None, {"steps": 100})
BATTERY: Mapping[str, tuple[str, float | None, dict[str, Any]]] = {
    "noise": ("noise", 1, {}),
    "fgsm": ("fgsm", 1, {}),
    "pgd": ("pgd", 1, {"steps": 40}),
    "pgd, twice the steps": ("pgd", 1, {"steps": 80}),
    "pgd at half the distance": ("pgd", 0.5, {"steps": 40}),
    "apgd without a bound": ("apgd", None, {"steps": 40}),
    "square": ("square", 1, {"queries": 500}),
}
"""Attack, budget in units of the median distance that DDN needs (None: across the whole box), parameters."""


def cost(n: int) -> int:
    """Passes through the network of a check of n images."""
    steps = sum(price(attack, params) for attack, _, params in (*BATTERY.values(), NEAREST))
    return min(n, EXAMINED) * steps


@dataclass(frozen=True)
class Evidence:
    """What was measured on n images, all classified correctly."""

    n: int
    exact: bool  # whether gradients are meant to agree with finite differences: straight-through ones are not
    repeat_gap: float  # largest difference between two answers to the same batch, over the largest logit
    parity: float  # largest difference between ONNX Runtime and twin, clean and attacked, over the largest logit
    probabilities: bool  # outputs look like a softmax's
    top_gap: float  # median difference of the two largest logits
    zero_gradients: int  # or so small beside the other images' that they are none
    broken_gradients: int  # NaN or infinite
    wrong_gradients: int  # disagree with finite differences
    useless_gradients: int  # following them a little moves the margin no more than a random step does
    outside: int  # successes that leave the ball or the box, or that the served model does not confirm
    broken: Mapping[str, Tensor]  # by entry of the battery and "ddn": which images it broke, (n,) bool


@dataclass(frozen=True)
class Verdict:
    """How a check went; ``measured`` says in words what was seen."""

    passed: bool
    measured: str


@dataclass(frozen=True)
class Examination:
    """The verdicts, and the distances that they rest on: a search of its own, whatever attacks a report asks for."""

    verdicts: dict[str, Verdict]
    places: Tensor  # (m,) int64 of the images that the search broke
    l2: Tensor  # (m,) float64, how far it had to go

    @classmethod
    def of(cls, verdicts: dict[str, Verdict], places: Tensor, nearest: Outcome) -> "Examination":
        """With the search's outcome for the images at these places (n,)."""
        found = nearest.minimal["l2"]
        won = found.isfinite()
        return cls(verdicts, places[won], found[won])


@dataclass(frozen=True)
class Check:
    """What a check is for: what an alarm means, what to do about it, and how evidence is judged."""

    meaning: str
    advice: str
    judge: Callable[[Evidence], Verdict]


def examine(
    model: Classifier, x: Tensor, y: Tensor, *, seed: int = 0, check_cancelled: Callable[[], None]
) -> Examination:
    """Every check on the first images (n, C, H, W) with labels (n,) that the model classifies correctly.

    Raises what ``check_cancelled`` raises, which is called before every evaluation of an attack.
    """
    right = first_right(model, x, y)
    if len(right) == 0:
        return nothing_right(len(x))
    evidence, nearest = gather(model, x[right], y[right], seed, check_cancelled)
    skipped = set() if evidence.exact else {DIFFERENCES}
    verdicts = {name: check.judge(evidence) for name, check in CHECKS.items() if name not in skipped}
    return Examination.of(verdicts, right, nearest)


def nothing_right(n: int) -> Examination:
    """Of a model that classifies none of n images correctly: there is nothing to break, and that is an alarm."""
    verdict = Verdict(False, f"0 of {n} images are classified correctly")
    return Examination({ATTACKABLE: verdict}, torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64))


def first_right(model: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Places of the first images (n, C, H, W) that are classified as their labels (n,) say, EXAMINED at most."""
    return (labels(model.predict(x)) == y).nonzero().squeeze(1)[:EXAMINED]


def gather(
    model: Classifier, x: Tensor, y: Tensor, seed: int, check_cancelled: Callable[[], None]
) -> tuple[Evidence, Outcome]:
    """Measure, and what the search for the nearest found. All images x (n, C, H, W) are classified as y (n,)."""

    def attack(name: str, eps: float | None, params: dict[str, Any]) -> Outcome:
        return referee.run(
            model, name, x, y, Threat("l2", eps), seed=seed, params=params, check_cancelled=check_cancelled
        )

    nearest = attack(*NEAREST)
    across = x[0].numel() ** 0.5
    middle = float(nearest.minimal["l2"].median())
    distance = middle if 0 < middle < torch.inf else TYPICAL * across
    outcomes = {
        name: attack(kind, across if share is None else share * distance, params)
        for name, (kind, share, params) in BATTERY.items()
    }
    broken = {"ddn": nearest.minimal["l2"] <= distance} | {name: found.success for name, found in outcomes.items()}
    attacked = nearest.images
    logits = model.predict(x)
    size = float(logits.abs().max().clamp_min(TINY))
    twins = [_twin(model, images) for images in (x, attacked)]
    served = [logits, model.predict(attacked)]
    two = logits.topk(2, dim=1).values
    evidence = Evidence(
        n=len(x),
        exact=model.manifest.gradients != STRAIGHT_THROUGH,
        repeat_gap=max(gap(logits, model.predict(x)), gap(twins[0], _twin(model, x))) / size,
        parity=max(gap(one, other) for one, other in zip(served, twins, strict=True)) / size,
        probabilities=bool((logits >= 0).all() and ((logits.sum(dim=1) - 1).abs() < 1e-3).all()),
        top_gap=float((two[:, 0] - two[:, 1]).median()),
        outside=sum(unconfirmed(model, x, y, found) for found in (nearest, *outcomes.values())),
        broken=broken,
        **_gradients(model, x, y, distance, seed),
    )
    return evidence, nearest


def _twin(model: Classifier, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([model.twin(part.to(model.device)).cpu() for part in torch.split(x, referee.at_once(x))])


def gap(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().nan_to_num(torch.inf).max())


def unconfirmed(model: Classifier, x: Tensor, y: Tensor, found: Outcome) -> int:
    """Successes that, looked at once more, are none: (count)."""
    images, won = found.images, found.success
    inside = (images >= 0).flatten(1).all(dim=1) & (images <= 1).flatten(1).all(dim=1)
    measured = (l2(images.double() - x.double()) - found.l2).abs() < 1e-6
    found_label = labels(model.predict(images))
    fooled = (found_label != y) & (found_label != UNANSWERED)
    return int((won & ~(inside & measured & fooled)).sum())


def _gradients(model: Classifier, x: Tensor, y: Tensor, distance: float, seed: int) -> dict[str, int]:
    """Of the margin near each image: how many vanish, are not finite, are wrong, lead nowhere."""
    total: Counter[str] = Counter()
    for rows in torch.split(torch.arange(len(x), device=model.device), referee.at_once(x)):
        here = rows.to(x.device)
        total.update(_gradients_of(model, x[here], y[here], distance, KeyedRandom(seed, rows)))
    return dict(total)


def _gradients_of(model: Classifier, x: Tensor, y: Tensor, distance: float, keys: KeyedRandom) -> dict[str, int]:
    x, y, shape = x.to(model.device), y.to(model.device), tuple(x.shape[1:])
    x = (x + (keys.uniform(0, shape) - 0.5) / 255).clamp(0, 1)  # off the ties of max-pooling over equal pixels

    def value(images: Tensor, network: Callable[[Tensor], Tensor] = model.twin) -> Tensor:
        return margin(network(images), y)

    probe = x.clone().requires_grad_()
    (raw,) = torch.autograd.grad(value(probe).sum(), probe)
    finite = raw.flatten(1).isfinite().all(dim=1)
    gradient = raw.nan_to_num(0.0, 0.0, 0.0)
    largest = gradient.flatten(1).abs().amax(dim=1)
    zero = finite & (largest <= VANISHED * largest.median())
    direction, stray = unit(gradient), unit(keys.normal(1, shape))
    with torch.no_grad():
        before = value(x)
        moved = [before - value((x - STEP * distance * way).clamp(0, 1)) for way in (direction, stray, -stray)]
        double = doubled(model.twin)
        wrong = torch.zeros_like(zero)
        for way in (direction, stray):
            step = 1e-6 * way.double()
            slope = (value(x.double() + step, double) - value(x.double() - step, double)) / 2e-6
            wrong |= (slope - (gradient * way).flatten(1).sum(dim=1)).abs() > 0.05 * l2(gradient) + 1e-6
    useless = moved[0] <= torch.maximum(moved[1], moved[2])
    usable = finite & ~zero
    return {
        "zero_gradients": int(zero.sum()),
        "broken_gradients": int((~finite).sum()),
        "wrong_gradients": int((wrong & usable).sum()),
        "useless_gradients": int((useless & usable).sum()),
    }


def beats(weak: Tensor, strong: Tensor) -> tuple[bool, int, int]:
    """Whether the weaker attack breaks more than chance allows, and how many images each breaks alone.

    Images that only one of the two breaks are as likely either's if they are equally strong: two standard deviations
    of such a coin, and one image, are let pass.
    """
    weak_only, strong_only = int((weak & ~strong).sum()), int((strong & ~weak).sum())
    return weak_only - strong_only > 2 * (weak_only + strong_only) ** 0.5 + 1, weak_only, strong_only


def _count(evidence: Evidence, count: int, what: str, most: float) -> Verdict:
    return Verdict(count <= most * evidence.n, f"{count} of {evidence.n} {what}")


def _pair(weak: str, *strong: str) -> Callable[[Evidence], Verdict]:
    def judge(evidence: Evidence) -> Verdict:
        together = torch.stack([evidence.broken[name] for name in strong]).any(dim=0)
        better, ours, theirs = beats(evidence.broken[weak], together)
        return Verdict(not better, f"{weak} alone breaks {ours}, {' or '.join(strong)} alone {theirs} of {evidence.n}")

    return judge


def _twice(evidence: Evidence) -> Verdict:
    few, many = (int(evidence.broken[name].sum()) for name in ("pgd", "pgd, twice the steps"))
    return Verdict(
        many - few <= max(2, 0.05 * evidence.n), f"{few} of {evidence.n} broken, {many} with twice the steps"
    )


def _unbounded(evidence: Evidence) -> Verdict:
    broken = int(evidence.broken["apgd without a bound"].sum())
    return Verdict(broken == evidence.n, f"{broken} of {evidence.n} broken")


SATURATED = 100.0  # exp(-104) is zero in float32

DIFFERENCES = "gradients are right"
ATTACKABLE = "there are images to attack"

CHECKS: Mapping[str, Check] = {
    ATTACKABLE: Check(
        "The model classifies no image correctly: there is nothing to break, and no figure means anything.",
        "Look at the labels of the evaluation set, the order of the classes and the pixels that the model expects.",
        lambda e: Verdict(e.n > 0, f"{e.n} are examined"),
    ),
    "deterministic": Check(
        "The model answers differently when asked again: attacks meet another model than the one that is served.",
        "Take the randomness out, or certify the smoothed classifier; a single answer means nothing.",
        lambda e: Verdict(e.repeat_gap <= 1e-5, f"two answers differ by {e.repeat_gap:.2g} of the largest logit"),
    ),
    "outputs are logits": Check(
        "The outputs are probabilities: where one is close to 1 the gradient of the others vanishes.",
        "Export the model without its softmax.",
        lambda e: Verdict(not e.probabilities, "they sum to one" if e.probabilities else "they do not sum to one"),
    ),
    "logits of a sane scale": Check(
        "The logits lie so far apart that a softmax of them is exactly 0 or 1 in float32: attacks on cross-entropy "
        "in other tools see no gradient. Ours rescale them and do not care.",
        "Distrust what other tools report of this model; train with weight decay or divide the logits.",
        lambda e: Verdict(e.top_gap < SATURATED, f"the two largest differ by {e.top_gap:.3g} in the median"),
    ),
    "served model equals its twin": Check(
        "ONNX Runtime and the network that gradients come from disagree: attacks climb another model.",
        "Export again with a supported operator set; report the graph that does this.",
        lambda e: Verdict(
            e.parity <= (1e-3 if e.exact else PARITY), f"largest difference {e.parity:.2g} of the largest logit"
        ),
    ),
    "gradients are there": Check(
        "The gradient of the margin vanishes at images, or is not finite: they lie on a plateau (dead ReLUs, rounding, "
        "saturated units), where a white-box attack is blind unless it starts elsewhere, and robustness looks high.",
        "Ours search again from noise that is classified otherwise; other tools do not. Add `hopskipjump` to compare.",
        lambda e: _count(e, e.zero_gradients + e.broken_gradients, "are zero or not finite", DEAD),
    ),
    DIFFERENCES: Check(
        "Autograd and finite differences disagree: the gradient is not that of the function.",
        "Look for operators with a made-up gradient (straight-through estimators, custom functions).",
        lambda e: _count(e, e.wrong_gradients, "disagree with finite differences", 0.1),
    ),
    "gradients lead somewhere": Check(
        "A step along the gradient changes the margin no more than a random step: the gradient is shattered.",
        "Believe black-box attacks, or attack a smooth stand-in of the layer that does it.",
        lambda e: _count(e, e.useless_gradients, "do no better than a random step", 0.25),
    ),
    "iterating beats a single step": Check(
        "FGSM breaks images that PGD does not: the loss surface misleads PGD, or its steps are wrong.",
        "Run more restarts and other losses; distrust the robust accuracy.",
        _pair("fgsm", "pgd"),
    ),
    "more steps change little": Check(
        "Twice the steps break clearly more: the attack has not converged.",
        "Raise the steps until it has.",
        _twice,
    ),
    "larger budgets break more": Check(
        "Images broken at half the distance hold at the full one: the attack fails for reasons of its own.",
        "Distrust the robust accuracy at every eps; look at the loss along the attack.",
        _pair("pgd at half the distance", "pgd"),
    ),
    "no bound, no robustness": Check(
        "Some images hold although every image is allowed: gradients must be masked.",
        "Distrust the robust accuracy at every eps.",
        _unbounded,
    ),
    "white box beats black box": Check(
        "Square, which sees no gradient, breaks images that gradient attacks do not: gradients are masked.",
        "Believe the black-box figures; look for what masks the gradients.",
        _pair("square", "pgd", "ddn"),
    ),
    "attacks beat noise": Check(
        "Random points of the ball break images that the attacks do not.",
        "Something is broken in the attack or in the gradients: believe nothing above the noise.",
        _pair("noise", "square", "pgd", "ddn"),
    ),
    "successes stand": Check(
        "Adversarial examples, looked at once more, are outside the budget or fool nobody.",
        "A fault of this program or a model that is not deterministic: report it.",
        lambda e: Verdict(e.outside == 0, f"{e.outside} do not"),
    ),
}
