"""Validation of untrusted ONNX files: only plain graphs of known operators and limited size pass."""

import math
from collections.abc import Iterator, Mapping

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, helper

from gauntlet.artifacts import onnx_skeleton
from gauntlet.errors import refused
from gauntlet.onnx_import import external_weights, local_functions
from gauntlet.onnx_import.external_weights import Beside, nothing
from gauntlet.onnx_import.known_operators import DOMAINS, QUANTISED, RUNTIME

MAX_BYTES = 2**31 - 2**20  # of a file with its external weights: the limit of a protobuf message
MAX_NODES = 4000
MAX_WEIGHTS = 2**30  # numbers in all constants of a file
MAX_VALUES = 2**24  # numbers in one tensor that is computed, at batch size one
OPSETS = range(7, 26)

CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


def read(data: bytes, beside: Beside = nothing) -> onnx.ModelProto:
    """Parse and check an ONNX file, and load the weights that it stores in files ``beside`` it.

    Local functions are inlined, and unused opset imports removed. Raises InvalidInput with the field ``file`` and the
    reason.
    """
    if len(data) > MAX_BYTES:
        raise refused(f"it has {len(data)} bytes, at most {MAX_BYTES} are read")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise refused("it is not an ONNX file, or a truncated one") from error
    _check_head(model)
    for node in (*model.graph.node, *(node for function in model.functions for node in function.node)):
        _check_inner_graphs(node)
    _open_sizes(model)
    model = local_functions.inline(model, MAX_NODES)
    for node in model.graph.node:
        _check_operator(node)
    _drop_unused_imports(model)
    external_weights.load(tensors(model), beside, MAX_BYTES - len(data))
    _check_tensors(model)
    try:
        onnx_skeleton.check(model)  # sorted, hence without cycles; known operators, valid attributes
    except onnx.checker.ValidationError as error:
        raise refused(_first_line(error)) from error
    _check_sizes(model)
    return model


def opset(model: onnx.ModelProto) -> int:
    """Return the version of ai.onnx that the file is written for; 0 if it declares none."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def _check_head(model: onnx.ModelProto) -> None:
    if not model.graph.node:
        raise refused("it holds no graph")
    if len(model.graph.node) > MAX_NODES:
        raise refused(f"it has {len(model.graph.node)} nodes, at most {MAX_NODES} are accepted")
    model.ClearField("training_info")  # a served model does not use it
    if opset(model) not in OPSETS:
        raise refused(f"it is written for opset {opset(model)}, supported are {OPSETS.start} to {OPSETS.stop - 1}")
    if model.graph.sparse_initializer:
        raise refused("sparse weights are not supported; export them dense")


def _open_sizes(model: onnx.ModelProto) -> None:
    """Clear sizes of -1 or 0, which some exporters write for a size that is left open, in place."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value <= 0:
                dim.ClearField("dim_value")


def _check_inner_graphs(node: onnx.NodeProto) -> None:
    inner = {AttributeProto.GRAPH, AttributeProto.GRAPHS}
    if node.op_type in CONTROL or any(part.type in inner for part in node.attribute):
        raise refused(f"{node.op_type} holds a graph of its own: loops and branches are not supported")
    if any(part.type in {AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS} for part in node.attribute):
        raise refused("sparse constants are not supported; export them dense")


def _check_operator(node: onnx.NodeProto) -> None:
    if node.domain not in DOMAINS and not (node.domain == RUNTIME and node.op_type in QUANTISED):
        raise refused(
            f"the operator {node.domain}.{node.op_type} is not supported, only those of ai.onnx and ai.onnx.ml and the "
            f"quantised ones of ONNX Runtime; export the model without an optimizer that fuses operators"
        )
    if node.op_type in RANDOM:
        raise refused(f"{node.op_type} draws random numbers: the same image would not get the same answer")


def _drop_unused_imports(model: onnx.ModelProto) -> None:
    """Remove opset imports that no operator uses: ONNX Runtime's optimizer writes every domain that it knows."""
    used = {node.domain for node in model.graph.node} | {"", "ai.onnx"}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yield every constant in the file: weights, and tensors in attributes."""
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors


def _check_tensors(model: onnx.ModelProto) -> None:
    total = 0
    for tensor in tensors(model):
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
    """Refuse a model with a huge tensor of known shape. Tensors of unknown shape are bounded by the memory limit."""
    try:
        inferred = onnx_skeleton.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise refused(f"its shapes contradict each other ({_first_line(error)})") from error
    sizes = {value.name: _dims(value) for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    weights = _weight_sizes(model, sizes)
    for name, dims in sizes.items():
        if name in weights:
            continue
        if any(dim < 0 for dim in dims) or math.prod(dims) > MAX_VALUES:
            raise refused(f"the tensor {name[:100]} would hold {dims} numbers, at most {MAX_VALUES} are accepted")


def _dims(value: onnx.ValueInfoProto) -> list[int]:
    """Return the sizes of a tensor that are known."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.HasField("dim_value")]


def _weight_sizes(model: onnx.ModelProto, sizes: Mapping[str, list[int]]) -> dict[str, int]:
    """Return how many numbers each weight has, and each tensor that is computed from weights and no larger than they.

    The size of the file bounds all of them: for example a weight that is dequantised, transposed or cast.
    """
    weights = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        names = [name for name in node.input if name]
        if names and all(name in weights for name in names):
            available = sum(weights[name] for name in names)
            counts = {
                name: math.prod(sizes[name]) for name in node.output if min(sizes.get(name, [-1]), default=0) >= 0
            }
            weights.update((name, count) for name, count in counts.items() if count <= available)
    return weights
