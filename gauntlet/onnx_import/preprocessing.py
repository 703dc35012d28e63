"""The input of a classifier: converts images (batch, C, H, W) in [0, 1] to the input that the user's graph expects."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper

from gauntlet.errors import InvalidInput
from gauntlet.float32 import LARGEST
from gauntlet.onnx_import import graph_edits
from gauntlet.onnx_import.detection import InputDescription
from gauntlet.onnx_import.settings import RANGES, Range

Numbers = tuple[float, ...]

IMAGE = "gauntlet.image"


@dataclass(frozen=True)
class Preprocessing:
    """The image input of a graph, and the arithmetic before it: pixel * scale + offset, per channel."""

    image_input: InputDescription
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    bgr: bool = False  # the colours are reversed first: scale and offset are in the order that the file expects

    def feed(self, x: NDArray[np.float32]) -> NDArray[np.generic]:
        """Convert images (n, C, H, W) in [0, 1] to the input of the original file."""
        scale, offset = (np.asarray(value, np.float32)[:, None, None] for value in (self.scale, self.offset))
        values = (x[:, ::-1] if self.bgr else x) * scale + offset
        if self.image_input.layout in ("nhwc", "flat-nhwc"):
            values = values.transpose(0, 2, 3, 1)
        shaped = values.reshape(len(x), *self.sizes())
        kind = helper.tensor_dtype_to_np_dtype(self.image_input.elem_type)
        return np.floor(shaped + 0.5).astype(kind) if kind.kind == "u" else shaped.astype(kind)

    def sizes(self) -> tuple[int, ...]:
        """Return the shape of one image at the input of the original graph, with open sizes filled in."""
        channels, height, width = self.image_input.image
        full = {"nchw": (channels, height, width), "nhwc": (height, width, channels)}.get(self.image_input.layout)
        if full is not None:
            return full
        open_sizes = [i for i, dim in enumerate(self.image_input.dims) if dim is None]
        sizes = [dim or 1 for dim in self.image_input.dims]
        if open_sizes:
            sizes[open_sizes[0]] = channels * height * width // int(np.prod(sizes))
        return tuple(sizes)


def input_preprocessing(
    image_input: InputDescription, limits: Range, mean: Numbers | None, std: Numbers | None, *, bgr: bool = False
) -> Preprocessing:
    """Combine range and normalisation into one scale and offset per channel.

    Raises InvalidInput if mean or std has a wrong number of channels, or normalised pixels would exceed float32.
    """
    scale, offset = affine(limits, mean, std, image_input.image[0])
    if max(map(abs, (*scale, *offset))) > LARGEST:
        raise InvalidInput("std is so small that normalised pixels are beyond float32", "std")
    return Preprocessing(image_input, scale, offset, bgr)


def affine(limits: Range, mean: Numbers | None, std: Numbers | None, channels: int) -> tuple[Numbers, Numbers]:
    """Return the scale and offset, per channel, that take a pixel in [0, 1] to (value in ``limits`` - mean) / std."""
    low, high = RANGES[limits]
    means, stds = _channels(mean, 0.0, channels, "mean"), _channels(std, 1.0, channels, "std")
    return tuple((high - low) / s for s in stds), tuple((low - m) / s for m, s in zip(means, stds, strict=True))


def _channels(values: tuple[float, ...] | None, default: float, channels: int, field: str) -> tuple[float, ...]:
    values = values or (default,)
    if len(values) not in (1, channels):
        raise InvalidInput(f"{field} has {len(values)} numbers for images of {channels} channels", field)
    return values * (channels // len(values))


def compile_in(graph: GraphProto, steps: Preprocessing) -> None:
    """Make images (batch, C, H, W) in [0, 1] the graph's input, and the preprocessing its first nodes, in place."""
    image_input = steps.image_input
    name, nodes = IMAGE, list[NodeProto]()

    def step(operator: str, value: NDArray[np.generic] | None = None, **given: Any) -> None:
        nonlocal name
        made, reads = f"gauntlet.in{len(nodes)}", [name]
        if value is not None:
            reads.append(graph_edits.constant(graph, f"{made}.by", value))
        nodes.append(helper.make_node(operator, reads, [made], **given))
        name = made

    shape = (1, len(steps.scale), 1, 1)
    if steps.bgr:  # a convolution: the certificate rules and the torch twin support it
        step("Conv", np.eye(3, dtype=np.float32)[::-1].reshape(3, 3, 1, 1))
    if any(value != 1 for value in steps.scale):
        step("Mul", np.asarray(steps.scale, np.float32).reshape(shape))
    if any(steps.offset):
        step("Add", np.asarray(steps.offset, np.float32).reshape(shape))
    if image_input.layout in ("nhwc", "flat-nhwc"):
        step("Transpose", perm=[0, 2, 3, 1])
    if len(image_input.dims) != 3 or image_input.layout.startswith("flat"):
        step("Reshape", np.asarray([0, *steps.sizes()], np.int64))
    if image_input.elem_type == TensorProto.UINT8 and not _only_cast(graph, image_input.name):
        step("Add", np.asarray(0.5, np.float32))
        step("Floor")
        step("Cast", to=TensorProto.UINT8)
    graph_edits.rename_input(graph, image_input.name, name)
    graph_edits.replace_nodes(graph, [*nodes, *graph.node])
    kept = [value for value in graph.input if value.name != image_input.name]
    batch = "batch" if image_input.fixed is None else image_input.fixed
    del graph.input[:]
    graph.input.extend([helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, [batch, *image_input.image]), *kept])


def _only_cast(graph: GraphProto, name: str) -> bool:
    """Whether all readers of the bytes cast them to floats: then the input can be floats, without rounding to bytes."""
    readers = graph_edits.consumers(graph, name)
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    return bool(readers) and all(
        node.op_type == "Cast" and graph_edits.attributes(node)["to"] in floats for node in readers
    )
