"""Detection of the pixels that a graph expects: their range, the order of colours, the normalisation."""

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
MEANS_APART = 2.0  # tolerance, of 0..255, for rounded versions of Caffe's means


@dataclass(frozen=True)
class Normalisation:
    """The mean that is subtracted from pixels and the std by which they are then divided; None: not done."""

    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    choice: Choice


def channels(graph: GraphProto, at: InputDescription, declared: ModelSettings) -> Choice:
    """Return the order of the colours, rgb or bgr. Raises InvalidInput if one is declared for grey images."""
    if declared.channels is not None:
        if at.image[0] != 3:
            raise InvalidInput("grey images have no order of colours", "channels")
        return Choice(value=declared.channels, given=True, reason="declared")
    node, values = _first_arithmetic(graph, at.name)
    means = np.abs(values.reshape(-1)) if node is not None and node.op_type in ("Sub", "Add") else np.zeros(0)
    if at.image[0] == 3 and means.size == 3 and bool((np.abs(means - CAFFE_BGR) < MEANS_APART).all()):
        return Choice(value="bgr", given=False, reason="a guess: the graph subtracts Caffe's means, blue first")
    return Choice(value="rgb", given=False, reason="nothing in the graph says otherwise")


def normalisation(graph: GraphProto, at: InputDescription, limits: Range, declared: ModelSettings) -> Normalisation:
    """Return mean and standard deviation: those declared, or ImageNet's if the graph looks like an ImageNet classifier.

    That is: large colour images, 1,000 classes, and no arithmetic on the pixels in the graph itself.
    """
    if declared.mean is not None or declared.std is not None:
        words = f"mean {declared.mean}, std {declared.std}"
        return Normalisation(declared.mean, declared.std, Choice(value=words, given=True, reason="declared"))
    sizes = {size for value in graph.output for size in graph_edits.dims(value)[1:]}
    large = at.image[0] == 3 and min(at.image[1:]) >= IMAGENET_SIDE and sizes - {1} == {IMAGENET_CLASSES}
    if large and limits == "0..1" and declared.pixel_range is None and _first_arithmetic(graph, at.name)[0] is None:
        reason = "a guess: colour images, 1000 classes and no normalisation in the graph, as networks of ImageNet have"
        words = f"mean {IMAGENET_MEAN}, std {IMAGENET_STD}"
        return Normalisation(IMAGENET_MEAN, IMAGENET_STD, Choice(value=words, given=False, reason=reason))
    nothing = Choice(value="none", given=False, reason="nothing in the file says otherwise")
    return Normalisation(None, None, nothing)


def prepares(graph: GraphProto, at: InputDescription) -> str:
    """Describe how the graph itself preprocesses pixels; empty if it begins with a layer or a BatchNormalization."""
    if at.elem_type == TensorProto.UINT8:
        return "the input is of bytes"
    node, _ = _first_arithmetic(graph, at.name)
    return "" if node is None or node.op_type == "BatchNormalization" else f"the graph begins with {node.op_type}"


def _first_arithmetic(graph: GraphProto, name: str) -> tuple[NodeProto | None, NDArray[np.float64]]:
    """Return the sum, product or normalisation that is applied to pixels first, and its constant; None for a layer."""
    constants = graph_edits.constants(graph)
    for node in _first_nodes(graph, name):
        if node.op_type in ARITHMETIC:
            values = [constants[read].astype(np.float64) for read in node.input if read in constants]
            return node, values[0] if values else np.zeros(0)
        if node.op_type not in PASSIVE | ROUNDING:
            break
    return None, np.zeros(0)


def _first_nodes(graph: GraphProto, name: str) -> Iterator[NodeProto]:
    """Yield the chain of nodes that process the pixels first, as long as each output is read by only one node."""
    while len(readers := graph_edits.consumers(graph, name)) == 1:
        yield readers[0]
        name = readers[0].output[0]


def pixel_range(graph: GraphProto, at: InputDescription, declared: ModelSettings) -> tuple[Range, Choice]:
    """Return the values of black and white pixels that the model expects."""
    if declared.pixel_range is not None:
        return declared.pixel_range, Choice(value=declared.pixel_range, given=True, reason="declared")
    guess, why = _guess_range(graph, at)
    return guess, Choice(value=guess, given=False, reason=why)


def _guess_range(graph: GraphProto, at: InputDescription) -> tuple[Range, str]:
    if at.elem_type == TensorProto.UINT8:
        return "0..255", "the input is of bytes"
    constants = graph_edits.constants(graph)
    for node in islice(_first_nodes(graph, at.name), 8):
        if node.op_type not in PASSIVE:
            if why := _scaling(node, constants):
                return "0..255", why
            if node.op_type not in ("Sub", "Add"):
                break
    return "0..1", "nothing in the graph says otherwise"


def _scaling(node: NodeProto, constants: dict[str, np.ndarray]) -> str:
    """Return why the first arithmetic on pixels implies the range 0..255; empty if it does not."""
    values = [constants[name] for name in node.input if name in constants]
    if len(values) != 1 or values[0].size == 0 or values[0].dtype.kind not in "fiu":
        return ""
    size = float(np.abs(values[0].astype(np.float64)).max())
    implied = {"Div": size > 100, "Mul": size < 0.02, "Sub": size > 2, "Add": size > 2}
    return f"the graph begins with {node.op_type} of {size:.4g}" if implied.get(node.op_type, False) else ""
