"""Is the evaluation itself valid? The checks that every report runs on each of its models.

After Carlini et al., "On Evaluating Adversarial Robustness", arXiv 1902.06705, and Pintor et al., "Indicators of Attack
Failure", arXiv 2106.09947. ``gather`` runs the networks; the verdicts are pure functions of the evidence that it
returns.
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
"""Number of images examined: the first ones that are classified correctly."""

TYPICAL = 0.05  # default L2 distance, times the root of the number of pixel values, if DDN gives none
VANISHED = 1e-6  # a gradient is zero if its largest entry is at most this share of the median image's
DEAD = 0.03  # share of the images that may have a zero or non-finite gradient
STEP = 0.25  # share of the median distance by which a gradient is followed to test whether it changes the margin

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
"""By name: attack, eps in units of the median distance that DDN needs (None: the whole box), parameters."""


def cost(n: int) -> int:
    """Return the number of passes through the network that checking n images takes."""
    steps = sum(price(attack, params) for attack, _, params in (*BATTERY.values(), NEAREST))
    return min(n, EXAMINED) * steps


@dataclass(frozen=True)
class Evidence:
    """The measurements on n images, all classified correctly."""

    n: int
    exact: bool  # gradients must agree with finite differences; False for straight-through estimators
    repeat_gap: float  # largest difference between two evaluations of the same batch, over the largest logit
    parity: float  # largest difference between ONNX Runtime and twin, clean and attacked, over the largest logit
    probabilities: bool  # outputs look like those of a softmax
    top_gap: float  # median difference of the two largest logits
    zero_gradients: int  # or negligible beside those of the other images
    broken_gradients: int  # NaN or infinite
    wrong_gradients: int  # disagree with finite differences
    useless_gradients: int  # a small step along them changes the margin no more than a random step
    outside: int  # successes outside the box, at another distance than reported, or not confirmed by the served model
    broken: Mapping[str, Tensor]  # by key of BATTERY, or "ddn": which images were broken, (n,) bool


@dataclass(frozen=True)
class Verdict:
    """The result of a check; ``measured`` describes the measurement in words."""

    passed: bool
    measured: str


@dataclass(frozen=True)
class Examination:
    """The verdicts, and the distances from the checks' own search, which is independent of the attacks of a report."""

    verdicts: dict[str, Verdict]
    places: Tensor  # (m,) int64 positions of the images that the search broke
    l2: Tensor  # (m,) float64 distances

    @classmethod
    def of(cls, verdicts: dict[str, Verdict], places: Tensor, nearest: Outcome) -> "Examination":
        """Return the examination with the search's outcome for the images at these positions (n,)."""
        found = nearest.minimal["l2"]
        won = found.isfinite()
        return cls(verdicts, places[won], found[won])


@dataclass(frozen=True)
class Check:
    """A check: what an alarm means, what to do about it, and the function that judges the evidence."""

    meaning: str
    advice: str
    judge: Callable[[Evidence], Verdict]


def examine(
    model: Classifier, x: Tensor, y: Tensor, *, seed: int = 0, check_cancelled: Callable[[], None]
) -> Examination:
    """Run every check on the first images of (n, C, H, W), labels (n,), that the model classifies correctly.

    ``check_cancelled`` is called before every evaluation of an attack and ends the run by raising.
    """
    right = first_right(model, x, y)
    if len(right) == 0:
        return nothing_right(len(x))
    evidence, nearest = gather(model, x[right], y[right], seed, check_cancelled)
    skipped = set() if evidence.exact else {DIFFERENCES}
    verdicts = {name: check.judge(evidence) for name, check in CHECKS.items() if name not in skipped}
    return Examination.of(verdicts, right, nearest)


def nothing_right(n: int) -> Examination:
    """Return the examination of a model that classifies none of n images correctly, which is an alarm."""
    verdict = Verdict(False, f"0 of {n} images are classified correctly")
    return Examination({ATTACKABLE: verdict}, torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64))


def first_right(model: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Return the positions of the first correctly classified images of (n, C, H, W), labels (n,); at most EXAMINED."""
    return (labels(model.predict(x)) == y).nonzero().squeeze(1)[:EXAMINED]


def gather(
    model: Classifier, x: Tensor, y: Tensor, seed: int, check_cancelled: Callable[[], None]
) -> tuple[Evidence, Outcome]:
    """Collect the evidence, and the outcome of the search for the nearest adversarial examples.

    All images x (n, C, H, W) must be classified as y (n,).
    """

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
    """Return the largest absolute difference; infinite if there is a NaN."""
    return float((one - other).abs().nan_to_num(torch.inf).max())


def unconfirmed(model: Classifier, x: Tensor, y: Tensor, found: Outcome) -> int:
    """Return the number of successes that a second evaluation does not confirm."""
    images, won = found.images, found.success
    inside = (images >= 0).flatten(1).all(dim=1) & (images <= 1).flatten(1).all(dim=1)
    measured = (l2(images.double() - x.double()) - found.l2).abs() < 1e-6
    found_label = labels(model.predict(images))
    fooled = (found_label != y) & (found_label != UNANSWERED)
    return int((won & ~(inside & measured & fooled)).sum())


def _gradients(model: Classifier, x: Tensor, y: Tensor, distance: float, seed: int) -> dict[str, int]:
    """Count the margin gradients near the images that are zero, not finite, wrong, or useless."""
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
    direction, random = unit(gradient), unit(keys.normal(1, shape))
    with torch.no_grad():
        before = value(x)
        moved = [before - value((x - STEP * distance * along).clamp(0, 1)) for along in (direction, random, -random)]
        double = doubled(model.twin)
        wrong = torch.zeros_like(zero)
        for along in (direction, random):
            step = 1e-6 * along.double()
            slope = (value(x.double() + step, double) - value(x.double() - step, double)) / 2e-6
            wrong |= (slope - (gradient * along).flatten(1).sum(dim=1)).abs() > 0.05 * l2(gradient) + 1e-6
    useless = moved[0] <= torch.maximum(moved[1], moved[2])
    usable = finite & ~zero
    return {
        "zero_gradients": int(zero.sum()),
        "broken_gradients": int((~finite).sum()),
        "wrong_gradients": int((wrong & usable).sum()),
        "useless_gradients": int((useless & usable).sum()),
    }


def beats(weak: Tensor, strong: Tensor) -> tuple[bool, int, int]:
    """Return whether the weaker attack is significantly better, and how many images only it and only the other breaks.

    If both are equally strong, an image that only one of them breaks is equally likely to be either's (a fair coin): a
    lead of two standard deviations plus one image is tolerated.
    """
    weak_only, strong_only = int((weak & ~strong).sum()), int((strong & ~weak).sum())
    return weak_only - strong_only > 2 * (weak_only + strong_only) ** 0.5 + 1, weak_only, strong_only


def _count(evidence: Evidence, count: int, what: str, limit: float) -> Verdict:
    return Verdict(count <= limit * evidence.n, f"{count} of {evidence.n} {what}")


def _pair(weak: str, *strong: str) -> Callable[[Evidence], Verdict]:
    def judge(evidence: Evidence) -> Verdict:
        together = torch.stack([evidence.broken[name] for name in strong]).any(dim=0)
        better, first, second = beats(evidence.broken[weak], together)
        return Verdict(not better, f"only {weak} breaks {first}, only {' or '.join(strong)} {second} of {evidence.n}")

    return judge


def _twice(evidence: Evidence) -> Verdict:
    once, twice = (int(evidence.broken[name].sum()) for name in ("pgd", "pgd, twice the steps"))
    return Verdict(
        twice - once <= max(2, 0.05 * evidence.n), f"{once} of {evidence.n} broken, {twice} with twice the steps"
    )


def _unbounded(evidence: Evidence) -> Verdict:
    broken = int(evidence.broken["apgd without a bound"].sum())
    return Verdict(broken == evidence.n, f"{broken} of {evidence.n} broken")


SATURATED = 100.0  # exp(-104) is zero in float32

DIFFERENCES = "gradients are right"
ATTACKABLE = "there are images to attack"

CHECKS: Mapping[str, Check] = {
    ATTACKABLE: Check(
        "The model classifies no image correctly: there is nothing to attack, and the figures mean nothing.",
        "Look at the labels of the evaluation set, the order of the classes and the pixels that the model expects.",
        lambda e: Verdict(e.n > 0, f"{e.n} are examined"),
    ),
    "deterministic": Check(
        "The model gives different outputs for the same input: attacks see another model than the one that is served.",
        "Remove the randomness, or certify the smoothed classifier; a single output means nothing.",
        lambda e: Verdict(e.repeat_gap <= 1e-5, f"two outputs differ by {e.repeat_gap:.2g} of the largest logit"),
    ),
    "outputs are logits": Check(
        "The outputs are probabilities: where one is close to 1 the gradient of the others vanishes.",
        "Export the model without its softmax.",
        lambda e: Verdict(not e.probabilities, "they sum to one" if e.probabilities else "they do not sum to one"),
    ),
    "logits of a sane scale": Check(
        "The logits lie so far apart that a softmax of them is exactly 0 or 1 in float32: attacks on cross-entropy "
        "in other tools see no gradient. Those of Gauntlet rescale the logits and are not affected.",
        "Do not trust what other tools report for this model; train with weight decay or divide the logits.",
        lambda e: Verdict(e.top_gap < SATURATED, f"the two largest differ by {e.top_gap:.3g} in the median"),
    ),
    "served model equals its twin": Check(
        "ONNX Runtime and the network that gives the gradients disagree: attacks optimise another model.",
        "Export again with a supported operator set, and report the graph as a bug.",
        lambda e: Verdict(
            e.parity <= (1e-3 if e.exact else PARITY), f"largest difference {e.parity:.2g} of the largest logit"
        ),
    ),
    "gradients are there": Check(
        "The gradient of the margin is zero or not finite at some images: they lie on a plateau (dead ReLUs, rounding, "
        "saturated units), where a white-box attack fails unless it starts elsewhere: robustness looks too high.",
        "Gauntlet's attacks search again from noise images of another class; other tools do not. Add `hopskipjump` to "
        "compare.",
        lambda e: _count(e, e.zero_gradients + e.broken_gradients, "are zero or not finite", DEAD),
    ),
    DIFFERENCES: Check(
        "Autograd and finite differences disagree: the gradient is not that of the function.",
        "Look for operators with an artificial gradient (straight-through estimators, custom functions).",
        lambda e: _count(e, e.wrong_gradients, "disagree with finite differences", 0.1),
    ),
    "gradients lead somewhere": Check(
        "A step along the gradient changes the margin no more than a random step: the gradient is shattered.",
        "Trust the black-box attacks, or replace the layer that causes it by a smooth approximation for the attack.",
        lambda e: _count(e, e.useless_gradients, "do no better than a random step", 0.25),
    ),
    "iterating beats a single step": Check(
        "FGSM breaks images that PGD does not: the loss surface misleads PGD, or its step size is wrong.",
        "Run more restarts and other losses; do not trust the robust accuracy.",
        _pair("fgsm", "pgd"),
    ),
    "more steps change little": Check(
        "Twice the steps break clearly more: the attack has not converged.",
        "Raise the steps until it has.",
        _twice,
    ),
    "larger budgets break more": Check(
        "Images broken within half the distance are not broken within the full one: the attack itself fails.",
        "Do not trust the robust accuracy at any eps; look at the loss during the attack.",
        _pair("pgd at half the distance", "pgd"),
    ),
    "no bound, no robustness": Check(
        "Some images are not broken although every perturbation is allowed: gradients must be masked.",
        "Do not trust the robust accuracy at any eps.",
        _unbounded,
    ),
    "white box beats black box": Check(
        "Square, which uses no gradient, breaks images that gradient attacks do not: gradients are masked.",
        "Trust the figures of the black-box attacks; look for the layer that masks the gradients.",
        _pair("square", "pgd", "ddn"),
    ),
    "attacks beat noise": Check(
        "Random points of the ball break images that the attacks do not.",
        "The attack or the gradients are broken: trust no robust accuracy above the accuracy under noise.",
        _pair("noise", "square", "pgd", "ddn"),
    ),
    "successes stand": Check(
        "A second evaluation of adversarial examples finds them outside the budget, or correctly classified.",
        "Either Gauntlet has a bug, or the model is not deterministic: report it.",
        lambda e: Verdict(e.outside == 0, f"{e.outside} do not"),
    ),
}
