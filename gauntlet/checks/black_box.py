"""Checks for a model without gradients: those of gauntlet.checks.white_box that need only black-box attacks."""

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
    """Run the black-box checks of a model. That it has no gradients is an alarm: robustness may look too high."""
    rows = first_right(model, x, y)
    if len(rows) == 0:
        return nothing_right(len(x))
    x, y = x[rows], y[rows]

    def attack(name: str, eps: float | None, params: dict[str, Any]) -> Outcome:
        return referee.run(
            model, name, x, y, Threat("l2", eps), seed=seed, params=params, check_cancelled=check_cancelled
        )

    nearest = attack(NEAREST[0], None, NEAREST[1])
    median = float(nearest.minimal["l2"].median())
    distance = median if 0 < median < float("inf") else TYPICAL * x[0].numel() ** 0.5
    square, noise = attack("square", distance, SQUARE), attack("noise", distance, {})
    logits = model.predict(x)
    repeat = gap(logits, model.predict(x)) / float(logits.abs().max().clamp_min(TINY))
    broken = square.success | (nearest.minimal["l2"] <= distance)
    noise_wins, only_noise, only_attacks = beats(noise.success, broken)
    outside = sum(unconfirmed(model, x, y, outcome) for outcome in (nearest, square, noise))
    verdicts = {
        ATTACKABLE: Verdict(True, f"{len(x)} are examined"),
        "deterministic": Verdict(repeat <= 1e-5, f"two answers differ by {repeat:.2g} of the largest logit"),
        "gradients are there": Verdict(False, model.manifest.gradients),
        "attacks beat noise": Verdict(
            not noise_wins, f"only noise breaks {only_noise}, only square or hopskipjump {only_attacks} of {len(x)}"
        ),
        "successes stand": Verdict(outside == 0, f"{outside} do not"),
    }
    return Examination.of(verdicts, rows, nearest)
