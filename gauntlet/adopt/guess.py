"""What a graph lets one guess of the pictures that it wants and of the answers that it gives."""

import json
import math
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto

from gauntlet.adopt import graphs
from gauntlet.adopt.declared import Declared, Layout, Range
from gauntlet.adopt.hostile import refused
from gauntlet.errors import InvalidInput
from gauntlet.manifest import Choice

Shape = tuple[int, int, int]
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})
MAX_SIDE = 1024  # pixels of an image
MAX_CLASSES = 10_000
PASSIVE = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
NAMING = ("classes", "class_names", "labels", "names")  # keys under which exporters leave the names of classes


@dataclass(frozen=True)
class Door:
    """How pictures get into the graph."""

    name: str
    elem_type: int
    dims: tuple[int | None, ...]  # of the graph's own input, the batch left out
    fixed: int | None  # images that it takes at once; None: any number
    layout: Layout
    image: Shape
    choices: dict[str, Choice]


def door(graph: GraphProto, declared: Declared) -> Door:
    """The one input and how an image (C, H, W) fits it. Raises InvalidInput where it cannot be known."""
    values = graphs.inputs(graph)
    if len(values) != 1:
        raise refused(f"it has {len(values)} inputs, a classifier of images has one")
    value = values[0]
    kind = value.type.tensor_type.elem_type
    if not value.type.HasField("tensor_type") or kind not in (*FLOATS, TensorProto.UINT8):
        raise refused(f"its input {value.name} is neither of floats nor of uint8")
    dims = graphs.dims(value)
    if len(dims) < 2 or not value.type.tensor_type.HasField("shape"):
        raise refused("its input has no batch and pixels; it must be (batch, ...)")
    layout, image, choices = _layout(tuple(dims[1:]), declared)
    _check_fit(tuple(dims[1:]), layout, image)
    if max(image[1:]) > MAX_SIDE:
        raise refused(f"its images are {image[2]}x{image[1]}, at most {MAX_SIDE} pixels a side are taken")
    return Door(value.name, kind, tuple(dims[1:]), dims[0], layout, image, choices)


def _layout(dims: tuple[int | None, ...], declared: Declared) -> tuple[Layout, Shape, dict[str, Choice]]:
    told = declared.layout is not None
    layout, why = (declared.layout, "") if declared.layout else _guess_layout(dims)
    assert layout is not None
    image = declared.input_shape or _guess_image(dims, layout)
    if image is None:
        message = f"the graph leaves the size of its images open ({_words(dims)}): say input_shape as [C, H, W]"
        raise InvalidInput(message, "input_shape")
    return (
        layout,
        image,
        {
            "layout": Choice(value=layout, given=told, reason=why or "said"),
            "input_shape": Choice(
                value="x".join(map(str, image)),
                given=declared.input_shape is not None,
                reason="said" if declared.input_shape else f"the graph's input is {_words(dims)}",
            ),
        },
    )


def _words(dims: tuple[int | None, ...]) -> str:
    return f"(batch, {', '.join('?' if dim is None else str(dim) for dim in dims)})"


def _guess_layout(dims: tuple[int | None, ...]) -> tuple[Layout, str]:
    if len(dims) == 3:
        if dims[0] not in (1, 3) and dims[2] in (1, 3):
            return "nhwc", "the last size is that of colours"
        return "nchw", "the first size is that of colours, or nothing says otherwise"
    return "flat", "the pixels come in a row; colour images by channel, unless layout says flat-nhwc"


def _guess_image(dims: tuple[int | None, ...], layout: Layout) -> Shape | None:
    known = [dim for dim in dims if dim is not None]
    if len(known) < len(dims):
        return None
    if len(dims) == 3 and layout in ("nchw", "nhwc"):
        channels, height, width = known if layout == "nchw" else (known[2], known[0], known[1])
        return channels, height, width
    if len(dims) == 2 and min(known) > 1:  # (H, W)
        return 1, known[0], known[1]
    total = math.prod(known)
    if edge := graphs.side(total):
        return 1, edge, edge
    if total % 3 == 0 and (edge := graphs.side(total // 3)):
        return 3, edge, edge
    return None


def _check_fit(dims: tuple[int | None, ...], layout: Layout, image: Shape) -> None:
    channels, height, width = image
    if channels not in (1, 3):
        raise InvalidInput(f"images of {channels} channels are not taken, only grey (1) and colour (3)", "input_shape")
    wanted = {"nchw": image, "nhwc": (height, width, channels)}.get(layout)
    if wanted is None:
        fits = None in dims or math.prod(dim or 1 for dim in dims) == math.prod(image)
    else:
        fits = len(dims) == 3 and all(dim in (None, want) for dim, want in zip(dims, wanted, strict=True))
    if not fits:
        raise InvalidInput(f"the graph's input {_words(dims)} does not take {layout} images of {image}", "input_shape")


def pixel_range(graph: GraphProto, at: Door, declared: Declared) -> tuple[Range, Choice]:
    """What black and white are to the model."""
    if declared.pixel_range is not None:
        return declared.pixel_range, Choice(value=declared.pixel_range, given=True, reason="said")
    guess, why = _guess_range(graph, at)
    return guess, Choice(value=guess, given=False, reason=why)


def _guess_range(graph: GraphProto, at: Door) -> tuple[Range, str]:
    if at.elem_type == TensorProto.UINT8:
        return "0..255", "the input is of bytes"
    known, name = graphs.constants(graph), at.name
    for _ in range(8):
        readers = graphs.consumers(graph, name)
        if len(readers) != 1:
            break
        node = readers[0]
        if node.op_type not in PASSIVE:
            if why := _scaling(node, known):
                return "0..255", why
            if node.op_type not in ("Sub", "Add"):
                break
        name = node.output[0]
    return "0..1", "nothing in the graph says otherwise"


def _scaling(node: NodeProto, known: dict[str, np.ndarray]) -> str:
    """Why the first arithmetic on pixels shows that they reach to 255, if it does."""
    values = [known[name] for name in node.input if name in known]
    if len(values) != 1 or values[0].size == 0 or values[0].dtype.kind not in "fiu":
        return ""
    size = float(np.abs(values[0].astype(np.float64)).max())
    telling = {"Div": size > 100, "Mul": size < 0.02, "Sub": size > 2, "Add": size > 2}
    return f"the graph begins with {node.op_type} of {size:.4g}" if telling.get(node.op_type, False) else ""


def answer(graph: GraphProto) -> str:
    """The name of the tensor that holds the answers: the only one of floats. A ZipMap is looked through."""
    made = graphs.producers(graph)
    found = []
    for value in graph.output:
        node = made.get(value.name)
        if node is not None and node.op_type == "ZipMap":
            found.append(node.input[0])
        elif value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in FLOATS:
            found.append(value.name)
    if len(found) != 1:
        raise refused(f"it has {len(found)} outputs of floats, a classifier has one: (batch, classes)")
    return found[0]


def class_names(declared: Declared, count: int, metadata: dict[str, str], labels: list[str]) -> tuple[str, ...]:
    """K names: as said, as in the file, or numbers. Raises InvalidInput for another number of names than outputs."""
    if count < 2 or count > MAX_CLASSES:
        raise refused(f"it gives {count} numbers for an image, a classifier gives 2 to {MAX_CLASSES}")
    if declared.classes is not None:
        if len(declared.classes) != count:
            message = f"{len(declared.classes)} names for the {count} outputs of the model"
            raise InvalidInput(message, "classes")
        return declared.classes
    for names in (labels, *(_listed(metadata.get(key, "")) for key in NAMING)):
        if len(names) == count and all(0 < len(name) <= 200 for name in names):
            return tuple(names)
    return tuple(map(str, range(count)))


def _listed(text: str) -> list[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if isinstance(value, dict):
        value = list(value.values())
    return [str(name) for name in value] if isinstance(value, list) else []


def choice(value: str, given: bool, otherwise: str) -> Choice:
    """The record of a question that was answered by its owner, or by a default with its reason."""
    return Choice(value=value, given=given, reason="said" if given else otherwise)


def labels(graph: GraphProto) -> list[str]:
    """The names of classes that operators of ai.onnx.ml carry."""
    for node in graph.node:
        given = graphs.attributes(node)
        for key in ("classlabels_strings", "classlabels_int64s", "classlabels_ints"):
            values = given.get(key)
            if isinstance(values, list) and values:
                return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]
    return []
