"""Rules for operators that only move, copy or leave out values.

ONNX's reference implementation runs the node once on an array of flat indices; the output shows which input value each
output value comes from. So the attributes of Slice, Pad, Transpose and similar operators need not be interpreted here.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from onnx import NodeProto, TensorProto

from gauntlet.bounds.builder import Array, Builder, Unboundable, attributes_of, real
from gauntlet.bounds.linear_operators import Selection, Shape, selection

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)


def move(builder: Builder, node: NodeProto) -> list[str]:
    """Add a step for each output of the node, and return their names."""
    moved = list(dict.fromkeys(name for name in node.input if name in builder.variables))
    if node.op_type != "Concat" and moved != [node.input[0]]:
        raise Unboundable(f"{node.op_type} whose indices or parameters depend on the input")
    if attributes_of(node).get("value", 0) and node.op_type == "Pad":
        raise Unboundable("Pad with a value in an attribute")
    steps = [builder.variables[name] for name in moved]
    shapes = tuple(builder.shapes[step] for step in steps)
    fixed = {name: builder.constants[name] for name in node.input if name and name not in moved}
    filling = [
        name for name in fixed if node.op_type == "Concat" or (node.op_type == "Pad" and name in node.input[2:3])
    ]
    places: dict[str, Array] = {name: np.zeros_like(fixed[name], dtype=np.float64) for name in filling}
    total = 0
    for name, shape in zip(moved, shapes, strict=True):
        places[name] = np.arange(total + 1, total + 1 + math.prod(shape), dtype=np.float64).reshape(shape)
        total += math.prod(shape)
    numbers = builder.run(node, {**fixed, **places})  # flat index + 1; zero marks a constant
    blank = {name: np.zeros(shape) for name, shape in zip(moved, shapes, strict=True)}
    offsets = builder.run(node, {**fixed, **blank}) if filling else [None] * len(numbers)
    return [
        builder.add(_selection(number, shapes, total, offset), steps, tuple(number.shape))
        for number, offset in zip(numbers, offsets, strict=True)
    ]


def _selection(number: Array, shapes: tuple[Shape, ...], total: int, offset: Array | None) -> Selection:
    index = torch.from_numpy(np.where(number == 0, total, number - 1).astype(np.int64).reshape(-1))
    return selection(index, shapes, tuple(number.shape), None if offset is None or not offset.any() else real(offset))


def cast(builder: Builder, node: NodeProto) -> str:
    """Return the step itself for a Cast to float32 or float64. Raises Unboundable for a type that rounds values."""
    if attributes_of(node)["to"] not in FLOATS:
        raise Unboundable("Cast to a type that rounds values")
    return builder.variable(node.input[0])


def pick(builder: Builder, step: str, places: Array) -> str:
    """Add a step with the values at the flat indices ``places`` of a step, in the shape of that array."""
    index = torch.from_numpy(places.astype(np.int64).reshape(-1))
    shape = tuple(places.shape)
    return builder.add(selection(index, (builder.shapes[step],), shape), [step], shape)


def places_of(builder: Builder, step: str) -> Array:
    """Return the flat index of each value of a step, in the step's shape."""
    shape = builder.shapes[step]
    return np.arange(math.prod(shape)).reshape(shape)


def expand(builder: Builder, step: str, shape: Shape) -> str:
    """Add a step that broadcasts a step to a shape."""
    if builder.shapes[step] == shape:
        return step
    return pick(builder, step, np.broadcast_to(places_of(builder, step), shape))


def reshape(builder: Builder, step: str, shape: Shape) -> str:
    return pick(builder, step, places_of(builder, step).reshape(shape))


def permute(builder: Builder, step: str, order: Sequence[int]) -> str:
    return pick(builder, step, places_of(builder, step).transpose(order))
