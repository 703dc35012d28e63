"""Certificates proved from the exported file: a walk of the ONNX graph in float64, from its weights alone.

Every tensor gets a bound on how fast it can change with the image, in the L2 norm of one flattened sample. Linear
layers contribute their spectral norm (gauntlet.spectral), known structures their known constant (gauntlet.rules); a
node without a rule ends the proof. What a manifest says counts for nothing.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import NodeProto
from torch import Tensor

from gauntlet import graph, spectral
from gauntlet.rules import RULES, SHAPE_ARITHMETIC
from gauntlet.walk import Unprovable, Walk, constant_of

ROUNDING = 1e-5
"""A served float32 logit is taken to lie within this times max |logit| of its exact value, or within
``Certificate.rounding`` if that is more. The margin loses four times that: two logits, at the clean and at the
perturbed image."""


@dataclass(frozen=True)
class Certificate:
    """A proved bound: ``pairwise[t, j]`` bounds the L2 Lipschitz constant of z_t - z_j. None: nothing is proved."""

    lipschitz: float | None
    pairwise: Tensor | None  # (K, K) float64
    reason: str
    rounding: float = 0.0  # absolute error of a logit, measured against float64 when the model is opened

    norm = "l2"
    method = "lipschitz"

    def radius(self, logits: Tensor) -> Tensor | None:
        """Logits (B, K) to L2 radii (B,), float64, in pixels of [0, 1]: the class cannot change within them."""
        if self.pairwise is None:
            return None
        z = logits.double().cpu()
        top = z.argmax(dim=1)
        slack = (ROUNDING * z.abs().amax(dim=1, keepdim=True)).clamp_min(self.rounding)
        gap = z.gather(1, top[:, None]) - z - 4 * slack
        radii = gap / self.pairwise[top].clamp_min(1e-300)
        return radii.scatter(1, top[:, None], torch.inf).amin(dim=1).clamp_min(0)


def prove(path: Path) -> Certificate:
    """Prove what can be proved about the classifier in an ONNX file: image (B, C, H, W) to logits (B, K)."""
    try:
        model = graph.read(path)
        onnx.checker.check_model(model)  # sorted, with known operators and valid attributes: the rules rely on it
        return _certificate(Walk(model))
    except (Unprovable, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return Certificate(None, None, f"no certificate: {error}")


def _certificate(walk: Walk) -> Certificate:
    for node in walk.nodes:
        if node.domain not in ("", "ai.onnx") or any(part.type == part.GRAPH for part in node.attribute):
            raise Unprovable(f"{node.domain} {node.op_type} is no plain ONNX operator")
        if node.op_type == "Constant":
            walk.constants[node.output[0]] = np.asarray(constant_of(node))
        elif node.op_type != "Shape" and any(name in walk.bounds for name in node.input):
            _bind(walk, node)
        elif node.op_type not in SHAPE_ARITHMETIC:  # these are the same for every image; no rule reads them
            raise Unprovable(f"there is no rule for {node.op_type}")
    if walk.output not in walk.bounds:
        raise Unprovable("the output does not depend on the input")
    total = walk.bounds[walk.output]
    if not math.isfinite(total):
        raise Unprovable("the bound is not finite")
    return Certificate(total, _pairwise(walk, total), "proved from the graph's weights")


def _bind(walk: Walk, node: NodeProto) -> None:
    rule = RULES.get(node.op_type)
    if rule is None or (len(node.output) > 1 and node.op_type != "Split"):
        raise Unprovable(f"there is no rule for {node.op_type} (node {node.name or node.output[0]})")
    bound = rule(walk, node)
    for name in node.output:
        walk.bounds[name] = bound


def _pairwise(walk: Walk, total: float) -> Tensor:
    """z_t - z_j through a linear head changes by ||w_t - w_j|| only; else by sqrt 2 times the whole bound."""
    node = walk.producer[walk.output]
    live = [name for name in node.input if name in walk.bounds]
    if node.op_type == "Add" and len(live) == 1:  # the head's bias
        node = walk.producer.get(live[0], node)
    classes = walk.shape(walk.output)[-1]
    if node.op_type not in ("Gemm", "MatMul") or len(walk.shape(node.input[0])) != 2:
        return torch.full((classes, classes), math.sqrt(2) * total, dtype=torch.float64)
    rows = torch.from_numpy(walk.matrix(node))  # (K, D)
    differences = (rows[:, None] - rows[None]).norm(dim=2)
    return differences * walk.bounds[node.input[0]] * spectral.ROUND_UP
