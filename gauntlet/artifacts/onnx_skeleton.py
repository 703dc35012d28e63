"""ONNX graphs without their large weights, to save memory in checkers, shape inference and converters.

These copy and serialise the whole model each time. A large weight whose values do not matter to them becomes an input.
"""

import onnx
from onnx import ModelProto, TensorProto, helper

LARGE = 2**18  # bytes


def is_large(tensor: TensorProto) -> bool:
    """Whether a tensor has at least LARGE bytes, or stores them in another file."""
    return len(tensor.raw_data) >= LARGE or tensor.data_location == TensorProto.EXTERNAL


def skeleton(model: ModelProto) -> ModelProto:
    """Return the same graph with large weights replaced by inputs of their type and shape."""
    made = ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    made.opset_import.extend(model.opset_import)
    made.functions.extend(model.functions)
    graph, source = made.graph, model.graph
    graph.name = source.name
    graph.node.extend(source.node)
    graph.output.extend(source.output)
    graph.value_info.extend(source.value_info)
    large = {tensor.name: tensor for tensor in source.initializer if is_large(tensor)}
    graph.input.extend(value for value in source.input if value.name not in large)
    graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in large.values())
    graph.initializer.extend(tensor for tensor in source.initializer if tensor.name not in large)
    return made


def check(model: ModelProto) -> None:
    """Run ``onnx.checker.check_model`` without large weights. Raises onnx.checker.ValidationError."""
    onnx.checker.check_model(skeleton(model))


def infer_shapes(model: ModelProto, *, data_prop: bool = False) -> onnx.GraphProto:
    """Return the graph with all shapes that can be inferred; its large weights are inputs."""
    return onnx.shape_inference.infer_shapes(skeleton(model), data_prop=data_prop).graph
