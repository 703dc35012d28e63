"""An ONNX file read as if it were an attack: what is not plainly a small network is refused, with the reason."""

import math
from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, helper

from gauntlet.errors import InvalidInput

MAX_BYTES = 2**28  # of a file
MAX_NODES = 4000
MAX_WEIGHTS = 2**26  # numbers in all constants of a file
MAX_VALUES = 2**24  # numbers in one tensor that is computed, at batch size one
OPSETS = range(9, 23)

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


def refused(reason: str) -> InvalidInput:
    """The error for a file that is not taken."""
    return InvalidInput(f"the file is refused: {reason}", "file")


def read(data: bytes) -> onnx.ModelProto:
    """The model in a file that has passed every check. Raises InvalidInput with the field ``file`` and the reason."""
    if len(data) > MAX_BYTES:
        raise refused(f"it has {len(data)} bytes, at most {MAX_BYTES} are read")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise refused("it is not an ONNX file, or a truncated one") from error
    _check_head(model)
    for node in model.graph.node:
        _check_node(node)
    _check_tensors(model)
    try:
        onnx.checker.check_model(model)  # sorted, hence without cycles; known operators, valid attributes
    except onnx.checker.ValidationError as error:
        raise refused(_first_line(error)) from error
    _check_sizes(model)
    return model


def opset(model: onnx.ModelProto) -> int:
    """The version of ai.onnx that the file is written for; 0 where it says none."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def _check_head(model: onnx.ModelProto) -> None:
    if not model.graph.node:
        raise refused("it holds no graph")
    if len(model.graph.node) > MAX_NODES:
        raise refused(f"it has {len(model.graph.node)} nodes, at most {MAX_NODES} are taken")
    if model.functions or model.training_info:
        raise refused("it defines functions or training of its own; export it with these inlined")
    foreign = {entry.domain for entry in model.opset_import} - DOMAINS
    if foreign:
        raise refused(f"operators of {', '.join(sorted(foreign))} are not taken, only ai.onnx and ai.onnx.ml")
    if opset(model) not in OPSETS:
        raise refused(f"it is written for opset {opset(model)}, taken are {OPSETS.start} to {OPSETS.stop - 1}")
    if model.graph.sparse_initializer:
        raise refused("sparse weights are not taken; export them dense")


def _check_node(node: onnx.NodeProto) -> None:
    if node.domain not in DOMAINS:
        raise refused(f"the operator {node.domain}.{node.op_type} is not one of ai.onnx or ai.onnx.ml")
    inner = {AttributeProto.GRAPH, AttributeProto.GRAPHS}
    if node.op_type in CONTROL or any(part.type in inner for part in node.attribute):
        raise refused(f"{node.op_type} holds a graph of its own: loops and branches are not taken")
    if node.op_type in RANDOM:
        raise refused(f"{node.op_type} draws random numbers: the same image would not get the same answer")
    if any(part.type in {AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS} for part in node.attribute):
        raise refused("sparse constants are not taken; export them dense")


def tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every constant in the file: weights, and tensors in attributes."""
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors


def _check_tensors(model: onnx.ModelProto) -> None:
    total = 0
    for tensor in tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise refused(f"{tensor.name or 'a constant'} lies in another file; export with external_data=False")
        if any(dim < 0 for dim in tensor.dims):
            raise refused(f"{tensor.name or 'a constant'} has a negative size")
        count = math.prod(tensor.dims)
        total += count
        if total > MAX_WEIGHTS:
            raise refused(f"its constants hold more than {MAX_WEIGHTS} numbers")
        if tensor.HasField("raw_data") and tensor.data_type in helper.get_all_tensor_dtypes():
            _check_raw(tensor, count)


def _check_raw(tensor: TensorProto, count: int) -> None:
    wanted = count * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    small = tensor.data_type in {TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1}
    if len(tensor.raw_data) != wanted and not small:
        raise refused(f"{tensor.name or 'a constant'} needs {wanted} bytes and has {len(tensor.raw_data)}")


def _check_sizes(model: onnx.ModelProto) -> None:
    """No tensor that is known before the model runs may be huge. What is not known meets the memory limit."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise refused(f"its shapes contradict each other ({_first_line(error)})") from error
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.HasField("dim_value")]
        if any(dim < 0 for dim in dims) or math.prod(dims) > MAX_VALUES:
            raise refused(f"the tensor {value.name[:100]} would hold {dims} numbers, at most {MAX_VALUES} are taken")
