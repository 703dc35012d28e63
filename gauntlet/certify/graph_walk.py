"""The state of the prover's walk over an ONNX graph: constants, shapes, and the bounds proved so far."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from gauntlet.artifacts import onnx_skeleton

Array = NDArray[np.float64]


class Unprovable(Exception):
    """The graph contains something that the prover has no rule for."""


class Walk:
    """The graph at batch size one: constants, shapes, and a bound for each tensor that depends on the image."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.constants: dict[str, NDArray[np.generic]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        for node in self.nodes:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = np.asarray(constant_of(node))
        inputs = [value for value in model.graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(model.graph.output) != 1:
            raise Unprovable("the graph must have one input and one output")
        self.output = model.graph.output[0].name
        self.shapes = _shapes_at_batch_one(model, inputs[0].name)
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.bounds: dict[str, float] = {inputs[0].name: 1.0}

    def live(self, node: NodeProto) -> list[float]:
        """Return the bounds of those inputs that depend on the image."""
        return [self.bounds[name] for name in node.input if name in self.bounds]

    def only(self, node: NodeProto) -> float:
        """Return the bound of the first input. Raises Unprovable unless it alone depends on the image."""
        if node.input[0] not in self.bounds or len(self.live(node)) != 1:
            raise Unprovable(f"{node.op_type} of two variables")
        return self.bounds[node.input[0]]

    def constant(self, name: str) -> Array:
        if name not in self.constants:
            raise Unprovable(f"{name} is not a constant")
        return self.constants[name].astype(np.float64)

    def shape(self, name: str) -> tuple[int, ...]:
        if name not in self.shapes:
            raise Unprovable(f"the shape of {name} is unknown")
        return self.shapes[name]

    def matrix(self, node: NodeProto) -> Array:
        """Return the (out, in) matrix, times alpha, of a Gemm or of a MatMul with a constant on the right."""
        weight = self.constant(node.input[1])
        if weight.ndim != 2:
            raise Unprovable(f"{node.op_type} with a weight of {weight.ndim} dimensions")
        if node.op_type == "MatMul":
            return weight.T
        attributes = attributes_of(node)
        if attributes.get("transA", 0):
            raise Unprovable("Gemm with transA")
        oriented = weight if attributes.get("transB", 0) else weight.T
        return oriented * float(attributes.get("alpha", 1.0))


def attributes_of(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def constant_of(node: NodeProto) -> Any:
    (value,) = attributes_of(node).values()
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _shapes_at_batch_one(model: onnx.ModelProto, name: str) -> dict[str, tuple[int, ...]]:
    single = onnx_skeleton.skeleton(model)
    del single.graph.value_info[:]
    for value in (*single.graph.input, *single.graph.output):
        if value.name == name or value in single.graph.output:
            dim = value.type.tensor_type.shape.dim
            if len(dim) and not dim[0].dim_value:
                dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        if all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = tuple(d.dim_value for d in dims)
    return shapes
