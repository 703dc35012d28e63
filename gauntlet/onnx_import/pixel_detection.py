"""What a graph lets one guess of the pixels that it wants: their range, the order of colours, the normalisation."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto

from gauntlet.artifacts.manifest import Choice
from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import graph_edits
from gauntlet.onnx_import.detection import PASSIVE, InputDescription
from gauntlet.onnx_import.settings import ModelSettings, Range
from gauntlet.onnx_import.usual_preprocessing import CAFFE_MEAN, IMAGENET_MEAN, IMAGENET_STD

ROUNDING = frozenset({"QuantizeLinear", "DequantizeLinear"})
ARITHMETIC = frozenset({"Add", "BatchNormalization", "Div", "Mul", "Sub"})

IMAGENET_SIDE, IMAGENET_CLASSES = 128, 1000
CAFFE_BGR = np.array(CAFFE_MEAN[::-1])
MEANS_APART = 2.0  # by which rounded means may differ


@dataclass(frozen=True)
class Normalisation:
    """What is subtracted from pixels and what they are divided by; None: nothing."""

    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    choice: Choice


def channels(graph: GraphProto, at: InputDescription, declared: ModelSettings) -> Choice:
    """Red or blue first."""
    if declared.channels is not None:
        if at.image[0] != 3:
            raise InvalidInput("grey images have no order of colours", "channels")
        return Choice(value=declared.channels, given=True, reason="said")
    node, values = _first_arithmetic(graph, at.name)
    means = np.abs(values.reshape(-1)) if node is not None and node.op_type in ("Sub", "Add") else np.zeros(0)
    if at.image[0] == 3 and means.size == 3 and bool((np.abs(means - CAFFE_BGR) < MEANS_APART).all()):
        return Choice(value="bgr", given=False, reason="a guess: the graph subtracts Caffe's means, blue first")
    return Choice(value="rgb", given=False, reason="nothing in the graph says otherwise")


def normalisation(graph: GraphProto, at: InputDescription, limits: Range, declared: ModelSettings) -> Normalisation:
    """Mean and standard deviation: those that were said, or ImageNet's for what looks like a network of ImageNet.

    That is: large colour images, 1,000 classes, and no arithmetic on the pixels in the graph itself.
    """
    if declared.mean is not None or declared.std is not None:
        words = f"mean {declared.mean}, std {declared.std}"
        return Normalisation(declared.mean, declared.std, Choice(value=words, given=True, reason="said"))
    sizes = {size for value in graph.output for size in graph_edits.dims(value)[1:]}
    large = at.image[0] == 3 and min(at.image[1:]) >= IMAGENET_SIDE and sizes - {1} == {IMAGENET_CLASSES}
    if large and limits == "0..1" and declared.pixel_range is None and _first_arithmetic(graph, at.name)[0] is None:
        reason = "a guess: colour images, 1000 classes and no normalisation in the graph, as networks of ImageNet have"
        words = f"mean {IMAGENET_MEAN}, std {IMAGENET_STD}"
        return Normalisation(IMAGENET_MEAN, IMAGENET_STD, Choice(value=words, given=False, reason=reason))
    nothing = Choice(value="none", given=False, reason="nothing in the file says otherwise")
    return Normalisation(None, None, nothing)


def prepares(graph: GraphProto, at: InputDescription) -> str:
    """In words, how the graph itself prepares pixels; empty where it begins with a layer."""
    if at.elem_type == TensorProto.UINT8:
        return "the input is of bytes"
    node, _ = _first_arithmetic(graph, at.name)
    return "" if node is None or node.op_type == "BatchNormalization" else f"the graph begins with {node.op_type}"


def _first_arithmetic(graph: GraphProto, name: str) -> tuple[NodeProto | None, NDArray[np.float64]]:
    """The sum, product or normalisation that pixels meet first, and its constant; None where a layer comes first."""
    known = graph_edits.constants(graph)
    for node in _first_nodes(graph, name):
        if node.op_type in ARITHMETIC:
            values = [known[read].astype(np.float64) for read in node.input if read in known]
            return node, values[0] if values else np.zeros(0)
        if node.op_type not in PASSIVE | ROUNDING:
            break
    return None, np.zeros(0)


def _first_nodes(graph: GraphProto, name: str) -> Iterator[NodeProto]:
    """The nodes that pixels go through one after another, as long as only one reads them."""
    while len(readers := graph_edits.consumers(graph, name)) == 1:
        yield readers[0]
        name = readers[0].output[0]


def pixel_range(graph: GraphProto, at: InputDescription, declared: ModelSettings) -> tuple[Range, Choice]:
    """What black and white are to the model."""
    if declared.pixel_range is not None:
        return declared.pixel_range, Choice(value=declared.pixel_range, given=True, reason="said")
    guess, why = _guess_range(graph, at)
    return guess, Choice(value=guess, given=False, reason=why)


def _guess_range(graph: GraphProto, at: InputDescription) -> tuple[Range, str]:
    if at.elem_type == TensorProto.UINT8:
        return "0..255", "the input is of bytes"
    known = graph_edits.constants(graph)
    for node in islice(_first_nodes(graph, at.name), 8):
        if node.op_type not in PASSIVE:
            if why := _scaling(node, known):
                return "0..255", why
            if node.op_type not in ("Sub", "Add"):
                break
    return "0..1", "nothing in the graph says otherwise"


def _scaling(node: NodeProto, known: dict[str, np.ndarray]) -> str:
    """Why the first arithmetic on pixels shows that they reach to 255, if it does."""
    values = [known[name] for name in node.input if name in known]
    if len(values) != 1 or values[0].size == 0 or values[0].dtype.kind not in "fiu":
        return ""
    size = float(np.abs(values[0].astype(np.float64)).max())
    telling = {"Div": size > 100, "Mul": size < 0.02, "Sub": size > 2, "Add": size > 2}
    return f"the graph begins with {node.op_type} of {size:.4g}" if telling.get(node.op_type, False) else ""
