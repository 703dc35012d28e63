"""Detection of a graph's image size, layout, output and class names from the graph and its metadata."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onnx import GraphProto, NodeProto, TensorProto

from gauntlet.artifacts.manifest import Choice
from gauntlet.errors import InvalidInput, refused
from gauntlet.onnx_import import class_name_files, class_names, graph_edits
from gauntlet.onnx_import.companion_files import CompanionFile
from gauntlet.onnx_import.settings import Layout, ModelSettings

Shape = tuple[int, int, int]
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})
MAX_SIDE = 1024  # pixels, of either side of an image
MAX_CLASSES = 10_000
PASSIVE = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


@dataclass(frozen=True)
class InputDescription:
    """The image input of a graph."""

    name: str
    elem_type: int
    dims: tuple[int | None, ...]  # of the graph's own input, without the batch; None: left open
    fixed: int | None  # the batch size of the graph; None: any
    layout: Layout
    image: Shape
    choices: dict[str, Choice]


@dataclass(frozen=True)
class KnownSize:
    """The image size from another source, for a graph that leaves it open. ``channels`` None: unknown."""

    channels: int | None
    height: int
    width: int
    reason: str


def image_input(graph: GraphProto, declared: ModelSettings, known: KnownSize | None = None) -> InputDescription:
    """Describe the graph's only input and how an image (C, H, W) is laid out in it.

    Raises InvalidInput if the input is not one of images, or its size is neither in the graph nor declared nor known.
    """
    values = graph_edits.inputs(graph)
    if len(values) != 1:
        raise refused(f"it has {len(values)} inputs, a classifier of images has one")
    value = values[0]
    kind = value.type.tensor_type.elem_type
    if not value.type.HasField("tensor_type") or kind not in (*FLOATS, TensorProto.UINT8):
        raise refused(f"its input {value.name} is neither of floats nor of uint8")
    dims = graph_edits.dims(value)
    if len(dims) < 2 or not value.type.tensor_type.HasField("shape"):
        raise refused("its input has no batch and pixels; it must be (batch, ...)")
    layout, image, choices = _layout(tuple(dims[1:]), declared, known)
    _check_fit(tuple(dims[1:]), layout, image)
    if max(image[1:]) > MAX_SIDE:
        raise refused(f"its images are {image[2]}x{image[1]}, at most {MAX_SIDE} pixels a side are accepted")
    return InputDescription(value.name, kind, tuple(dims[1:]), dims[0], layout, image, choices)


def _layout(
    dims: tuple[int | None, ...], declared: ModelSettings, known: KnownSize | None
) -> tuple[Layout, Shape, dict[str, Choice]]:
    given = declared.layout is not None
    layout, why = (declared.layout, "") if declared.layout else _guess_layout(dims)
    assert layout is not None
    reason = "declared" if declared.input_shape else f"the graph's input is {_words(dims)}"
    image = declared.input_shape or _guess_image(dims, layout)
    if image is None and known is not None:
        channels = known.channels or (1 if 1 in dims else 3)
        image, reason = (channels, known.height, known.width), f"{reason}, and {known.reason}"
    if image is None:
        message = f"the graph leaves the size of its images open ({_words(dims)}): declare input_shape as [C, H, W]"
        raise InvalidInput(message, "input_shape")
    return (
        layout,
        image,
        {
            "layout": Choice(value=layout, given=given, reason=why or "declared"),
            "input_shape": Choice(
                value="x".join(map(str, image)),
                given=declared.input_shape is not None,
                reason=reason,
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
    if edge := graph_edits.side(total):
        return 1, edge, edge
    if total % 3 == 0 and (edge := graph_edits.side(total // 3)):
        return 3, edge, edge
    return None


def _check_fit(dims: tuple[int | None, ...], layout: Layout, image: Shape) -> None:
    channels, height, width = image
    if channels not in (1, 3):
        raise InvalidInput(f"images of {channels} channels: only grey (1) and colour (3) are supported", "input_shape")
    wanted = {"nchw": image, "nhwc": (height, width, channels)}.get(layout)
    if wanted is None:
        fits = None in dims or math.prod(dim or 1 for dim in dims) == math.prod(image)
    else:
        fits = len(dims) == 3 and all(dim in (None, want) for dim, want in zip(dims, wanted, strict=True))
    if not fits:
        raise InvalidInput(f"the graph's input {_words(dims)} does not take {layout} images of {image}", "input_shape")


def answer(graph: GraphProto, wanted: str | None = None) -> tuple[str, str]:
    """Return the name of the tensor that holds the answers, and the reason for choosing it.

    It is the output called ``wanted``, the only output of floats, or the one that is computed from all the others. For
    a ZipMap it is the input of that node. If there is one output per class, all sliced from the same tensor, it is that
    tensor. Raises InvalidInput if there is no such output, or more than one.
    """
    if wanted is not None:
        if wanted not in {value.name for value in graph.output}:
            names = ", ".join(value.name[:50] for value in graph.output)
            raise InvalidInput(f"the graph has no output of this name; it has {names}", "output_name")
        return wanted, "declared"
    producers = graph_edits.producers(graph)
    found = []
    for value in graph.output:
        node = producers.get(value.name)
        if node is not None and node.op_type == "ZipMap":
            found.append(node.input[0])
        elif value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in FLOATS:
            found.append(value.name)
    if len(found) > 1 and len(whole := {_uncut(producers, name) for name in found}) == 1:
        return whole.pop(), "all outputs are cut from it"
    if not found:
        raise refused("it has no output of floats, a classifier has one: (batch, classes)")
    ends = [name for name in found if set(found) <= _sources(producers, name)]
    if len(ends) != 1:
        names = ", ".join(name[:50] for name in found)
        raise InvalidInput(f"it has {len(found)} outputs of floats ({names}): declare output_name", "output_name")
    return ends[0], "the only one of floats" if len(found) == 1 else "it is computed from the others"


def _sources(producers: dict[str, NodeProto], name: str) -> set[str]:
    """Return the names of the tensors that a tensor is computed from, including its own."""
    found, waiting = {name}, [name]
    while waiting:
        node = producers.get(waiting.pop())
        new = set(node.input) - found if node is not None else set()
        found |= new
        waiting += new
    return found


def _uncut(producers: dict[str, NodeProto], name: str) -> str:
    """Return the tensor that a column was sliced from; without a Slice, the tensor before its reshapes."""
    while (node := producers.get(name)) is not None and node.op_type in ("Cast", "Identity", "Reshape", "Squeeze"):
        name = node.input[0]
    return node.input[0] if node is not None and node.op_type == "Slice" else name


def named_classes(
    declared: ModelSettings,
    count: int,
    metadata: dict[str, str],
    labels: list[str],
    files: Sequence[CompanionFile] = (),
) -> tuple[tuple[str, ...], Choice]:
    """Return ``count`` class names and where they are from: declared, in the model file, in ``files``, else numbers.

    Raises InvalidInput if another number of names is declared, they are declared twice, or ``count`` is too large.
    """
    if count > MAX_CLASSES:
        raise refused(f"it gives {count} numbers for an image, a classifier gives at most {MAX_CLASSES}")
    given = class_name_files.from_given(files, count)
    if given is not None and declared.classes is not None:
        raise InvalidInput("the classes are named twice, in a file and in a list", "classes")
    if declared.classes is not None:
        if len(declared.classes) != count:
            message = f"{len(declared.classes)} names for the {count} outputs of the model"
            raise InvalidInput(message, "classes")
        return _chosen(declared.classes, True, "declared")
    if given is not None:
        return _chosen(given.names, True, given.reason)
    if len(labels) == count and all(0 < len(name) <= 200 for name in labels):
        return _chosen(tuple(labels), False, "the class labels of an operator of ai.onnx.ml in the file")
    inside, remarks = class_names.from_metadata(metadata, count)
    beside, more = class_name_files.from_beside(files, count)
    found = inside or beside
    if inside is not None and beside is not None and inside.names != beside.names:
        more.append(f"{beside.reason.partition(',')[0]} says otherwise and is not used")
    if found is not None:
        return _chosen(found.names, False, found.reason, *remarks, *more)
    nothing = "nothing in the file names them: numbers"
    return _chosen(tuple(map(str, range(count))), False, nothing, *remarks, *more)


def _chosen(found: tuple[str, ...], given: bool, *reasons: str) -> tuple[tuple[str, ...], Choice]:
    shown = ", ".join(found[:10]) + (", ..." if len(found) > 10 else "")
    reason = "; ".join(filter(None, (*reasons, class_names.duplicates(found))))
    return found, Choice(value=shown, given=given, reason=reason)


def labels(graph: GraphProto) -> list[str]:
    """Return the class names in attributes of ai.onnx.ml operators, or in the constant of an ArrayFeatureExtractor."""
    known = graph_edits.constants(graph)
    for node in graph.node:
        given = graph_edits.attributes(node)
        picked = known.get(node.input[0]) if node.op_type == "ArrayFeatureExtractor" else None
        listed = [given.get(key) for key in ("classlabels_strings", "classlabels_int64s", "classlabels_ints")]
        for values in (*listed, None if picked is None else picked.reshape(-1).tolist()):
            if isinstance(values, list) and values:
                return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]
    return []
