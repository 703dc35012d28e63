"""The builder with which the rules for ONNX operators construct a network: constants, shapes and steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import NodeProto, helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from gauntlet.bounds.linear_operators import Combination, Linear, Shape
from gauntlet.bounds.network import Monotone, Network, Step
from gauntlet.bounds.nonlinear import Nonlinear
from gauntlet.errors import GauntletError

Array = NDArray[Any]


class Unboundable(GauntletError):
    """The graph contains something that there is no rule for, so nothing can be bounded."""


class Builder:
    """The network built so far. Each tensor of the graph is a constant, or a variable: the output of a step."""

    def __init__(self, input_name: str, input_shape: Shape, opset: int) -> None:
        self.opset = opset
        self.constants: dict[str, Array] = {}
        self.shapes: dict[str, Shape] = {"": input_shape}  # of each step; the input is the step ""
        self.variables: dict[str, str] = {input_name: ""}  # tensor of the graph -> step
        self._steps: list[Step] = []

    def add(
        self, operator: Linear | Nonlinear, inputs: Sequence[str], shape: Shape, monotone: Monotone | None = None
    ) -> str:
        """Add a step and return its name."""
        name = f"step{len(self._steps)}"
        self._steps.append(Step(name, operator, tuple(inputs), shape, monotone))
        self.shapes[name] = shape
        return name

    def combine(
        self,
        terms: Sequence[tuple[Array | float, str]],
        offset: Array | float = 0.0,
        monotone: Monotone | None = None,
    ) -> str:
        """Add a step: a linear combination of steps of the same shape, plus an offset. Return its name."""
        names = [name for _, name in terms]
        shape = self.shapes[names[0]]
        bias = real(np.broadcast_to(offset, shape)) if np.any(offset) else None
        return self.add(Combination(tuple(real(c) for c, _ in terms), bias=bias), names, shape, monotone)

    def operator(self, name: str) -> Linear | Nonlinear:
        """Return the operator of a step."""
        return next(step.operator for step in self._steps if step.name == name)

    def variable(self, name: str) -> str:
        """Return the step that computes a tensor. Raises Unboundable for a constant."""
        if name not in self.variables:
            raise Unboundable(f"{name} does not depend on the input")
        return self.variables[name]

    def constant(self, name: str) -> Array:
        """Return a constant, in float64. Raises Unboundable if the tensor is not a constant."""
        if name not in self.constants:
            raise Unboundable(f"{name} is not a constant")
        return self.constants[name].astype(np.float64)

    def run(self, node: NodeProto, given: dict[str, Array]) -> list[Array]:
        """Compute a node's outputs from values of its inputs, with ONNX's reference implementation."""
        inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in given]
        outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in node.output]
        alone = helper.make_graph([node], "node", inputs, outputs)
        model = helper.make_model(alone, opset_imports=[helper.make_opsetid("", self.opset)])
        try:
            return list(ReferenceEvaluator(model).run(None, given))
        except Exception as error:  # the reference implementation may raise any exception
            raise Unboundable(f"{node.op_type} cannot be evaluated ({error})") from error

    def finish(self, output: str) -> Network:
        """Return the network of the steps that the output depends on."""
        needed = {output}
        kept = []
        for step in reversed(self._steps):
            if step.name in needed:
                kept.append(step)
                needed.update(step.inputs, step.monotone.inputs if step.monotone else ())
        return Network("", self.shapes[""], tuple(reversed(kept)), output)


def real(value: Array | float) -> Tensor:
    """Return a value as a float64 tensor."""
    return torch.from_numpy(np.array(value, dtype=np.float64))


def attributes_of(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
