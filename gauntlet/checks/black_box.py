"""The checks of a model without gradients: those of gauntlet.checks.white_box that black-box attacks can answer."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from gauntlet.checks.white_box import (
    ATTACKABLE,
    TYPICAL,
    Examination,
    Verdict,
    beats,
    first_right,
    gap,
    nothing_right,
    unconfirmed,
)
from gauntlet.evaluation import referee
from gauntlet.evaluation.outcome import Outcome
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import TINY, Threat

NEAREST: tuple[str, dict[str, Any]] = ("hopskipjump", {"queries": 1000})
SQUARE: dict[str, Any] = {"queries": 1000}


def examine(
    model: Classifier, x: Tensor, y: Tensor, *, seed: int = 0, check_cancelled: Callable[[], None]
) -> Examination:
    """As ``checks.examine``; that there are no gradients is an alarm: robust accuracy may only look high."""
    right = first_right(model, x, y)
    if len(right) == 0:
        return nothing_right(len(x))
    x, y = x[right], y[right]

    def attack(name: str, eps: float | None, params: dict[str, Any]) -> Outcome:
        return referee.run(
            model, name, x, y, Threat("l2", eps), seed=seed, params=params, check_cancelled=check_cancelled
        )

    nearest = attack(NEAREST[0], None, NEAREST[1])
    middle = float(nearest.minimal["l2"].median())
    distance = middle if 0 < middle < float("inf") else TYPICAL * x[0].numel() ** 0.5
    square, noise = attack("square", distance, SQUARE), attack("noise", distance, {})
    logits = model.predict(x)
    repeat = gap(logits, model.predict(x)) / float(logits.abs().max().clamp_min(TINY))
    found = square.success | (nearest.minimal["l2"] <= distance)
    better, ours, theirs = beats(noise.success, found)
    outside = sum(unconfirmed(model, x, y, outcome) for outcome in (nearest, square, noise))
    verdicts = {
        ATTACKABLE: Verdict(True, f"{len(x)} are examined"),
        "deterministic": Verdict(repeat <= 1e-5, f"two answers differ by {repeat:.2g} of the largest logit"),
        "gradients are there": Verdict(False, model.manifest.gradients),
        "attacks beat noise": Verdict(
            not better, f"noise alone breaks {ours}, square or hopskipjump alone {theirs} of {len(x)}"
        ),
        "successes stand": Verdict(outside == 0, f"{outside} do not"),
    }
    return Examination.of(verdicts, right, nearest)
