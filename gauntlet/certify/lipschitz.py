"""Lipschitz certificates, proved in float64 from the weights in the exported ONNX file alone.

A walk over the graph gives every tensor an upper bound of its Lipschitz constant with respect to the image, in the L2
norm of one flattened sample. Linear layers contribute their spectral norm (``spectral_norms``), other operators a known
constant (``layer_rules``); a node without a rule ends the proof. No value of the manifest is used.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray

from gauntlet.artifacts import onnx_file, onnx_skeleton
from gauntlet.certify import spectral_norms
from gauntlet.certify.graph_walk import Unprovable, Walk, attributes_of
from gauntlet.certify.layer_rules import RULES, SHAPE_ARITHMETIC
from gauntlet.errors import escaped, reason

ROUNDING = 1e-5
"""The error of a served float32 logit is assumed to be at most this times max |logit|, or ``Certificate.rounding`` if
that is more. Four times that is subtracted from a margin: two logits, at the clean and at the perturbed image."""

MOST_OPERATIONS = 5e10
"""Limit for all spectral norms together: about 10 s on one core. It limits a count of operations, known in advance, and
not the time, so that every machine proves the same."""

SMALLEST = 1e-300  # replaces a Lipschitz constant of zero: two logits whose difference is the same for all images


@dataclass(frozen=True)
class Certificate:
    """A proved bound: ``pairwise[t, j]`` bounds the L2 Lipschitz constant of z_t - z_j. None: nothing is proved."""

    lipschitz: float | None  # of all logits together
    pairwise: NDArray[np.float64] | None  # (K, K)
    reason: str  # why nothing is proved, or how it was proved
    rounding: float = 0.0  # absolute error of a logit, measured against float64 when the model is opened

    norm = "l2"
    method = "lipschitz"

    def radius(self, logits: ArrayLike) -> NDArray[np.float64] | None:
        """Return the certified L2 radii (B,), in pixels of [0, 1], of logits (B, K), an array or a tensor on the CPU.

        The predicted class cannot change within its radius. The radius is zero where a logit is not finite. Return None
        if nothing is proved of this classifier.
        """
        if self.pairwise is None:
            return None
        z = np.asarray(logits, dtype=np.float64)
        rows, top = np.arange(len(z)), z.argmax(axis=1)
        gap = z[rows, top][:, None] - z - self.slack(z)[:, None]
        radii = gap / np.maximum(self.pairwise[top], SMALLEST)
        radii[rows, top] = np.inf
        return np.where(np.isfinite(z).all(axis=1), np.maximum(radii.min(axis=1), 0.0), 0.0)

    def slack(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Return the rounding error (B,) that is subtracted from the margins of served logits (B, K)."""
        z = np.asarray(logits, dtype=np.float64)
        return 4 * np.maximum(ROUNDING * np.abs(z).max(axis=1, initial=0.0), self.rounding)


def prove(path: Path) -> Certificate:
    """Prove a certificate for the classifier in an ONNX file, from images (B, C, H, W) to logits (B, K).

    Raises nothing: without a proof, the certificate has None and the reason.
    """
    try:
        model = onnx_file.read(path)
        onnx_skeleton.check(model)  # sorted, with known operators and valid attributes: the rules rely on it
        return _certificate(Walk(model))
    except (Unprovable, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return Certificate(None, None, escaped(f"no certificate: {error}"))
    except Exception as error:  # a graph that a rule did not expect, or one too large to process: nothing is proved
        return Certificate(None, None, f"no certificate: the proof ended with {reason(error)}")


def _certificate(walk: Walk) -> Certificate:
    _check_rules(walk)
    if (operations := _operations(walk)) > MOST_OPERATIONS:
        raise Unprovable(
            f"not attempted: the spectral norms of its layers would take about {operations:.0e} operations, the limit "
            f"is {MOST_OPERATIONS:.0e}, and the product of so many norms is too large to certify anything"
        )
    for node in walk.nodes:
        if node.op_type != "Shape" and any(name in walk.bounds for name in node.input):
            bound = RULES[node.op_type](walk, node)
            walk.bounds.update(dict.fromkeys(node.output, bound))
    total = walk.bounds[walk.output]
    if not math.isfinite(total):
        raise Unprovable("the bound is not finite")
    return Certificate(total, _pairwise(walk, total), "proved from the graph's weights")


def _check_rules(walk: Walk) -> None:
    """Raise Unprovable if a node has no rule, before any spectral norm is computed: one may take seconds."""
    live = set(walk.bounds)  # tensors that depend on the image
    for node in walk.nodes:
        if node.domain not in onnx_file.DEFAULT_DOMAINS or any(part.type == part.GRAPH for part in node.attribute):
            raise Unprovable(f"{node.domain} {node.op_type} is not a standard ONNX operator")
        if node.op_type in ("Constant", "Shape"):
            continue
        if live.isdisjoint(node.input):
            if node.op_type not in SHAPE_ARITHMETIC:  # their results are the same for every image; no rule reads them
                raise Unprovable(f"there is no rule for {node.op_type}")
            continue
        if node.op_type not in RULES or (len(node.output) > 1 and node.op_type != "Split"):
            raise Unprovable(f"there is no rule for {node.op_type} (node {node.name or node.output[0]})")
        live.update(node.output)
    if walk.output not in live:
        raise Unprovable("the output does not depend on the input")


def _operations(walk: Walk) -> float:
    """Estimate how many floating-point operations the spectral norms of the layers take."""
    total = 0.0
    for node in walk.nodes:
        kernel = walk.constants[node.input[1]].shape if node.input[1:2] and node.input[1] in walk.constants else ()
        if node.op_type == "Conv" and len(kernel) > 2:
            given = attributes_of(node)
            stride, groups = given.get("strides", [1] * (len(kernel) - 2)), given.get("group", 1)
            size = walk.shape(node.input[0])[2:]
            total += spectral_norms.convolution_operations(kernel, size=size, stride=stride, groups=groups)
        elif node.op_type in ("Gemm", "MatMul") and len(kernel) == 2:
            total += spectral_norms.dense_operations(kernel)
    return total


def _pairwise(walk: Walk, total: float) -> NDArray[np.float64]:
    """Return bounds (K, K) of the Lipschitz constants of z_t - z_j.

    After a linear head: ||w_t - w_j|| times the bound of the head's input. Otherwise sqrt 2 times the total bound.
    """
    node = walk.producer[walk.output]
    live = [name for name in node.input if name in walk.bounds]
    if node.op_type == "Add" and len(live) == 1:  # the head's bias
        node = walk.producer.get(live[0], node)
    classes = walk.shape(walk.output)[-1]
    if node.op_type not in ("Gemm", "MatMul") or len(walk.shape(node.input[0])) != 2:
        return np.full((classes, classes), math.sqrt(2) * total)
    rows = walk.matrix(node)  # (K, D)
    differences = np.array([np.linalg.norm(row - rows, axis=1) for row in rows])  # (K, K), in (K, D) of memory
    return differences * walk.bounds[node.input[0]] * spectral_norms.ROUND_UP
