"""Convert an ONNX graph into the network that is bounded, with one rule for each operator."""

from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import NodeProto, numpy_helper

from gauntlet.artifacts import onnx_file
from gauntlet.bounds import rules_activation, rules_linear, rules_movement
from gauntlet.bounds.builder import Array, Builder, Unboundable, attributes_of
from gauntlet.bounds.linear_operators import Shape
from gauntlet.bounds.network import Network

MOVEMENT = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Pad",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
SAME = frozenset({"Dropout", "Identity"})

RULES: dict[str, Callable[[Builder, NodeProto], str]] = {
    "Abs": rules_activation.absolute,
    "Add": rules_linear.add,
    "AveragePool": rules_activation.average_pool,
    "BatchNormalization": rules_linear.batch_normalization,
    "Cast": rules_movement.cast,
    "Clip": rules_activation.clip,
    "Conv": rules_linear.conv,
    "Div": rules_linear.scale,
    "Gemm": rules_linear.gemm,
    "GlobalAveragePool": rules_linear.reduce,
    "HardSigmoid": rules_activation.hard_sigmoid,
    "LeakyRelu": rules_activation.leaky,
    "MatMul": rules_linear.matmul,
    "Max": rules_activation.pairs,
    "MaxPool": rules_activation.max_pool,
    "Min": rules_activation.pairs,
    "Mul": rules_linear.scale,
    "Neg": rules_linear.scale,
    "PRelu": rules_activation.leaky,
    "ReduceMean": rules_linear.reduce,
    "ReduceSum": rules_linear.reduce,
    "Relu": rules_activation.relu,
    "Sigmoid": rules_activation.sigmoid,
    "Sub": rules_linear.add,
    "Sum": rules_linear.add,
    "Tanh": rules_activation.tanh,
}


def read(file: Path | IO[bytes]) -> Network:
    """Return the network in an ONNX file. Raises Unboundable with the reason if it cannot be bounded."""
    try:
        return from_model(onnx_file.read(file))
    except (OSError, ValueError, DecodeError) as error:
        name = file if isinstance(file, Path) else "the file"
        raise Unboundable(f"{name} cannot be read as an ONNX file ({error})") from error


def from_model(model: onnx.ModelProto) -> Network:
    """Return the network of a graph with one input and one output, for a single sample. Raises Unboundable."""
    try:
        onnx.checker.check_model(model)  # sorted, with known operators and valid attributes: the rules rely on it
    except onnx.checker.ValidationError as error:
        raise Unboundable(f"the graph is not valid ({error})") from error
    constants: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise Unboundable("the graph must have one input and one output")
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    builder = Builder(inputs[0].name, _sample_shape(inputs[0]), opset)
    builder.constants.update(constants)
    for node in model.graph.node:
        _read(builder, node)
    return builder.finish(builder.variable(model.graph.output[0].name))


def _sample_shape(value: onnx.ValueInfoProto) -> Shape:
    """Return the shape of one sample: with 1 as the first dimension if the graph's batch dimension is dynamic."""
    sizes = [dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim]
    if sizes and sizes[0] is None:
        sizes[0] = 1
    if None in sizes:
        raise Unboundable(f"the input {value.name} has no fixed size")
    return tuple(size for size in sizes if size is not None)


def _read(builder: Builder, node: NodeProto) -> None:
    if node.domain not in ("", "ai.onnx") or any(part.type == part.GRAPH for part in node.attribute):
        raise Unboundable(f"{node.domain} {node.op_type} is not a standard ONNX operator")
    live = [name for name in node.input if name in builder.variables]
    if node.op_type == "Constant":
        (value,) = attributes_of(node).values()
        array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
        builder.constants[node.output[0]] = array
    elif node.op_type == "Shape" and live:
        shape = np.array(builder.shapes[builder.variables[node.input[0]]], dtype=np.int64)
        blank = {node.input[0]: np.zeros(shape, np.float32)}
        builder.constants[node.output[0]] = builder.run(node, blank)[0]
    elif not live:
        given = {name: builder.constants[name] for name in node.input if name}
        builder.constants.update(zip(node.output, builder.run(node, given), strict=True))
    elif node.op_type in SAME:
        builder.variables[node.output[0]] = builder.variable(node.input[0])
    elif node.op_type in MOVEMENT:
        builder.variables.update(zip(node.output, rules_movement.move(builder, node), strict=True))
    elif node.op_type in RULES:
        builder.variables[node.output[0]] = RULES[node.op_type](builder, node)
    else:
        raise Unboundable(f"there is no rule for {node.op_type} (node {node.name or node.output[0]})")
