"""Verification of single images: certified, falsified with a counterexample, or unknown."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from gauntlet import predicted_labels
from gauntlet.bounds import prover
from gauntlet.bounds.bounder import Bounder
from gauntlet.bounds.builder import Unboundable
from gauntlet.bounds.prover import Proof
from gauntlet.errors import InvalidInput
from gauntlet.evaluation import referee
from gauntlet.evaluation.outcome import Outcome
from gauntlet.evaluation.query_counter import Budget
from gauntlet.norms import Norm
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import Threat
from gauntlet.unanswered_label import NO_ANSWER, UNANSWERED

Status = Literal["certified", "falsified", "unknown"]
Method = Literal["lipschitz"] | prover.Method
METHODS: tuple[Method, ...] = ("lipschitz", *prover.METHODS)

ATTACKED = 0.25  # share of the time for the attack that runs before the bounds
FINE = 1.01  # the largest radius is searched for to within this factor
TRIES = 12  # maximal number of radii that one method tries
REACH = 1e-6  # the smallest radius that is tried, as a share of the largest


@dataclass(frozen=True)
class ImageVerdict:
    """The verdict on one image within ``eps``; in a search for the largest radius, ``eps`` is the certified radius.

    ``bound`` is a lower bound of the smallest margin, minus the allowance for float32 (None if no bound was computed).
    ``distance`` is that of the smallest counterexample found, also if a smaller radius is certified.
    ``reason`` says why no bounds can be computed, if none can.
    """

    status: Status
    label: int
    eps: float
    method: str
    bound: float | None
    seconds: float
    counterexample: Tensor | None = None  # (C, H, W)
    distance: float | None = None
    reason: str | None = None


def certify(
    model: Classifier,
    x: Tensor,
    y: Tensor | None,
    norm: Norm,
    eps: float | None,
    *,
    methods: Sequence[Method] = METHODS,
    seconds: float = 60.0,
    seed: int = 0,
    eight_bit: bool = False,
    check_cancelled: Callable[[], None] = lambda: None,
) -> list[ImageVerdict]:
    """Prove or refute that no image of [0, 1] within ``eps`` of x (n, C, H, W) in Linf or L2 changes the class.

    Without an ``eps``, search for the largest radius that can be certified. Without labels y (n,), use the classes that
    the model predicts. The images share ``seconds``. Attacks run first, and ONNX Runtime classifies their images; with
    ``eight_bit`` only counterexamples of 8-bit pixels count. A graph that cannot be bounded is attacked, and certified
    by its Lipschitz constant if it has one. ``check_cancelled`` ends the run by raising. Raises InvalidInput for a norm
    or method that is not supported, and for arguments that the attack rejects.
    """
    if norm not in ("linf", "l2"):
        raise InvalidInput(f"bounds are computed in linf and l2, not in {norm}", "norm")
    if unknown := sorted(set(methods) - set(METHODS)):
        raise InvalidInput(f"unknown method {unknown[0]!r}; there are {', '.join(METHODS)}", "method")
    threat, start = Threat(norm, eps), time.perf_counter()
    bounder, reason = _bounder(model)
    logits = model.predict(x)
    answered = predicted_labels.labels(logits)
    labels = answered if y is None else y
    budget = Budget(seconds=ATTACKED * seconds)
    outcome = referee.run(
        model,
        _attack(model, threat),
        x,
        labels,
        threat,
        seed=seed,
        budget=budget,
        eight_bit=eight_bit,
        check_cancelled=check_cancelled,
    )
    deadline, found = start + seconds, []
    for row in range(len(x)):
        now = time.perf_counter()
        until = now + (deadline - now) / (len(x) - row)
        label = int(labels[row])
        if answered[row] == UNANSWERED:
            found.append(ImageVerdict("unknown", label, eps or 0.0, "none", None, 0.0, reason=NO_ANSWER))
            continue
        image = _Image(model, bounder, x[row], logits[row], label, norm, tuple(methods), check_cancelled)
        verdict = image.at(eps, outcome, row, until) if eps is not None else image.largest(outcome, row, until)
        found.append(replace(verdict, reason=reason))
    return found


def _bounder(model: Classifier) -> tuple[Bounder | None, str | None]:
    """Return the model's bounder, or None and the reason why there is none."""
    try:
        return model.bounder, None
    except Unboundable as error:
        return None, str(error)


def _attack(model: Classifier, threat: Threat) -> str:
    if not model.manifest.differentiable:
        return "square" if threat.eps is not None else "hopskipjump"
    if threat.eps is not None:
        return "apgd"
    return "fmn" if threat.norm == "linf" else "ddn"


@dataclass(frozen=True)
class _Image:
    """One image, and the methods that may verify it."""

    model: Classifier
    bounder: Bounder | None
    x: Tensor  # (C, H, W)
    logits: Tensor  # (K,)
    label: int
    norm: Norm
    methods: tuple[Method, ...]
    check_cancelled: Callable[[], None]

    def at(self, eps: float, outcome: Outcome, row: int, deadline: float) -> ImageVerdict:
        """Return the verdict within eps."""
        start = time.perf_counter()
        refuted = self._refuted(eps, outcome, row)
        if refuted is not None:
            return refuted
        if "lipschitz" in self.methods and self._proved() > eps:
            return ImageVerdict("certified", self.label, eps, "lipschitz", None, time.perf_counter() - start)
        if not self._bounding:
            return ImageVerdict("unknown", self.label, eps, "none", None, time.perf_counter() - start)
        proof = self._exclude(eps, self._bounding, deadline)
        status: Status = "certified" if proof.excluded else "unknown"
        bound = float(proof.margins.min())
        return ImageVerdict(status, self.label, eps, proof.method, bound, time.perf_counter() - start)

    def largest(self, outcome: Outcome, row: int, deadline: float) -> ImageVerdict:
        """Search for the largest certified radius; each method starts from the radius of the one before."""
        start = time.perf_counter()
        broken = float(outcome.minimal[self.norm][row]) if bool(outcome.success[row]) else math.inf
        if not bool(outcome.correct[row]):
            refuted = self._refuted(0.0, outcome, row)
            assert refuted is not None
            return refuted
        widest = 1.0 if self.norm == "linf" else math.sqrt(self.x.numel())
        radius, method, bound = 0.0, "none", None
        if "lipschitz" in self.methods and (proved := self._proved()) > 0:
            radius, method = proved, "lipschitz"
        for number, name in enumerate(self._bounding):
            now = time.perf_counter()
            until = now + (deadline - now) / (len(self._bounding) - number)
            low, high = radius, min(broken, widest)
            for attempt in range(TRIES):
                if time.perf_counter() > until or (low > 0 and high / low < FINE):
                    break
                middle = math.sqrt(max(low, REACH * high) * high)
                remaining = until - time.perf_counter()
                proof = self._exclude(middle, (name,), time.perf_counter() + remaining / min(4, TRIES - attempt))
                if proof.excluded:
                    low, method, bound = middle, name, float(proof.margins.min())
                else:
                    high = middle
            radius = low
        counterexample = outcome.images[row] if math.isfinite(broken) else None
        status: Status = "certified" if radius > 0 else "unknown"
        duration, distance = time.perf_counter() - start, broken if math.isfinite(broken) else None
        return ImageVerdict(status, self.label, radius, method, bound, duration, counterexample, distance)

    def _refuted(self, eps: float, outcome: Outcome, row: int) -> ImageVerdict | None:
        if not bool(outcome.correct[row]):
            return ImageVerdict("falsified", self.label, eps, "clean", None, 0.0, self.x, 0.0)
        if not bool(outcome.success[row]):
            return None
        distance = float(getattr(outcome, self.norm)[row])
        return ImageVerdict("falsified", self.label, eps, outcome.by[row], None, 0.0, outcome.images[row], distance)

    def _proved(self) -> float:
        """Return the radius that the Lipschitz constant certifies: in Linf, that of the cube inside the L2 ball."""
        radii = self.model.certificate.radius(self.logits[None])
        if radii is None or int(self.logits.argmax()) != self.label:
            return 0.0
        return float(radii[0]) / (1.0 if self.norm == "l2" else math.sqrt(self.x.numel()))

    @property
    def _bounding(self) -> list[prover.Method]:
        """The requested methods that compute bounds on the graph; empty if it cannot be bounded."""
        return [name for name in prover.METHODS if name in self.methods and self.bounder is not None]

    def _exclude(self, eps: float, methods: Sequence[prover.Method], deadline: float) -> Proof:
        """Try to prove that all other classes lose, by more than the joint rounding error of four float32 logits.

        This is the same allowance as in the Lipschitz certificate.
        """
        assert self.bounder is not None
        self.check_cancelled()
        slack = float(self.model.certificate.slack(self.logits[None])[0])
        arguments = self.x, self.label, self.norm, eps, slack, methods
        return self.bounder.prove(*arguments, deadline - time.perf_counter(), self.check_cancelled)
