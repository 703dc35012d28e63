"""A verdict for each image: certified, falsified with a counterexample, or unknown."""

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

ATTACKED = 0.25  # of the time, for the attack before the bounds
FINE = 1.01  # a largest radius is searched for until it is known within this factor
TRIES = 12  # radii that one method tries, at most
REACH = 1e-6  # the smallest radius that is tried, as a share of the largest


@dataclass(frozen=True)
class ImageVerdict:
    """What is known of one image within ``eps``; for a largest radius, ``eps`` is what was certified.

    ``bound`` is a lower bound of the least margin, less the allowance for float32 (None where nothing was bounded).
    ``distance`` is of the counterexample: the smallest one found, also where a smaller radius is certified.
    ``reason`` says why nothing can be bounded, if nothing can.
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

    Without an ``eps`` the largest radius that can be certified is searched for. Without labels y (n,) the class is the
    model's own. The images share the seconds; attacks come first, and ONNX Runtime judges them; with ``eight_bit`` only
    counterexamples that PNG keeps count. A graph that cannot be bounded is attacked, and held against its Lipschitz
    constant. ``check_cancelled`` raises to end it. Raises InvalidInput for what does not fit.
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
        one = _Image(model, bounder, x[row], logits[row], label, norm, tuple(methods), check_cancelled)
        verdict = one.at(eps, outcome, row, until) if eps is not None else one.largest(outcome, row, until)
        found.append(replace(verdict, reason=reason))
    return found


def _bounder(model: Classifier) -> tuple[Bounder | None, str | None]:
    """The model's, or why there is none."""
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
    """One image, and how it may be proved."""

    model: Classifier
    bounder: Bounder | None
    x: Tensor  # (C, H, W)
    logits: Tensor  # (K,)
    label: int
    norm: Norm
    methods: tuple[Method, ...]
    check_cancelled: Callable[[], None]

    def at(self, eps: float, outcome: Outcome, row: int, deadline: float) -> ImageVerdict:
        """The verdict within eps."""
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
        """The largest radius found, method by method, each starting from what the one before could prove."""
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
            for tried in range(TRIES):
                if time.perf_counter() > until or (low > 0 and high / low < FINE):
                    break
                middle = math.sqrt(max(low, REACH * high) * high)
                rest = until - time.perf_counter()
                proof = self._exclude(middle, (name,), time.perf_counter() + rest / min(4, TRIES - tried))
                if proof.excluded:
                    low, method, bound = middle, name, float(proof.margins.min())
                else:
                    high = middle
            radius = low
        counterexample = outcome.images[row] if math.isfinite(broken) else None
        status: Status = "certified" if radius > 0 else "unknown"
        taken, distance = time.perf_counter() - start, broken if math.isfinite(broken) else None
        return ImageVerdict(status, self.label, radius, method, bound, taken, counterexample, distance)

    def _refuted(self, eps: float, outcome: Outcome, row: int) -> ImageVerdict | None:
        if not bool(outcome.correct[row]):
            return ImageVerdict("falsified", self.label, eps, "clean", None, 0.0, self.x, 0.0)
        if not bool(outcome.success[row]):
            return None
        distance = float(getattr(outcome, self.norm)[row])
        return ImageVerdict("falsified", self.label, eps, outcome.by[row], None, 0.0, outcome.images[row], distance)

    def _proved(self) -> float:
        """The radius that the network's Lipschitz constant proves: in Linf, of the cube inside the L2 ball."""
        radii = self.model.certificate.radius(self.logits[None])
        if radii is None or int(self.logits.argmax()) != self.label:
            return 0.0
        return float(radii[0]) / (1.0 if self.norm == "l2" else math.sqrt(self.x.numel()))

    @property
    def _bounding(self) -> list[prover.Method]:
        """The methods that need the graph."""
        return [name for name in prover.METHODS if name in self.methods and self.bounder is not None]

    def _exclude(self, eps: float, methods: Sequence[prover.Method], deadline: float) -> Proof:
        """All other classes, by more than four float32 logits can be off together, as in the Lipschitz certificate."""
        assert self.bounder is not None
        self.check_cancelled()
        slack = float(self.model.certificate.slack(self.logits[None])[0])
        asked = self.x, self.label, self.norm, eps, slack, methods
        return self.bounder.prove(*asked, deadline - time.perf_counter(), self.check_cancelled)
