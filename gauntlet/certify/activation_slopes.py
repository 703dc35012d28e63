"""Lipschitz constants of common activations, by ONNX operator: the factors by which the prover multiplies a bound."""

import math
from collections.abc import Callable, Mapping
from typing import Any

Attributes = Mapping[str, Any]


def _by_alpha(default: float) -> Callable[[Attributes], float]:
    """Return the rule for an activation with slope one on one side of zero, and at most alpha on the other."""
    return lambda given: max(1.0, abs(given.get("alpha", default)))


def _always(slope: float) -> Callable[[Attributes], float]:
    return lambda _: slope


def _selu(given: Attributes) -> float:
    gamma, alpha = given.get("gamma", 1.05070102214813), given.get("alpha", 1.67326319217681)
    return abs(gamma) * max(1.0, abs(alpha))


STEEPEST: Mapping[str, Callable[[Attributes], float]] = {
    "Celu": lambda given: 1.0 if given.get("alpha", 1.0) > 0 else math.inf,
    "Elu": _by_alpha(1.0),
    "Erf": _always(2 / math.sqrt(math.pi)),
    "Gelu": _always(1.13),  # 1.1290, in both forms
    "HardSigmoid": lambda given: abs(given.get("alpha", 0.2)),
    "HardSwish": _always(1.5),
    "LeakyRelu": _by_alpha(0.01),
    "Mish": _always(1.09),  # 1.0884
    "Selu": _selu,
    "Sigmoid": _always(0.25),
    "Softplus": _always(1.0),
    "Softsign": _always(1.0),
}
