"""Small classifiers of many make: what people bring. Hand-made ones need onnx alone; exported ones torch, skl2onnx."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


@dataclass(frozen=True)
class Animal:
    """A file, what its owner says of it, and what is to be expected."""

    data: bytes
    says: dict[str, Any] = field(default_factory=dict)
    differentiable: bool = True
    contrast: float = 1.0  # of the images it is attacked on


def _draw(*shape: int, seed: int = 0, scale: float | None = None) -> NDArray[np.float32]:
    size = (2 / max(1, int(np.prod(shape[:-1])))) ** 0.5 if scale is None else scale
    return (size * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def build(
    nodes: list[onnx.NodeProto],
    weights: dict[str, NDArray],
    x: list[Any],
    y: list[Any],
    *,
    kind: int = FLOAT,
    out: int = FLOAT,
    opset: int = 17,
    outputs: list[onnx.ValueInfoProto] | None = None,
    metadata: dict[str, str] | None = None,
) -> bytes:
    """A graph from "x" to "y"."""
    graph = helper.make_graph(
        nodes,
        "zoo",
        [helper.make_tensor_value_info("x", kind, x)],
        outputs or [helper.make_tensor_value_info("y", out, y)],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()],
    )
    domains = {node.domain for node in nodes} - {""}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 3) for domain in sorted(domains))]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=min(10, 3 + opset // 3))
    if metadata:
        helper.set_model_props(model, metadata)
    return model.SerializeToString()


def _node(operator: str, reads: str, makes: str, **given: Any) -> onnx.NodeProto:
    return helper.make_node(operator, reads.split(), makes.split(), **given)


def dense(
    shape: tuple[int, ...] = (784,),
    *,
    last: str | None = None,
    opset: int = 17,
    kind: int = FLOAT,
    batch: Any = "n",
    dtype: type = np.float32,
    seed: int = 0,
    divide: float | None = None,
    metadata: dict[str, str] | None = None,
) -> bytes:
    """Two layers on a flattened input of any shape; the number of its classes is 5."""
    size = int(np.prod(shape))
    weights: dict[str, NDArray] = {
        "w1": _draw(size, 32, seed=seed, scale=(2 / size) ** 0.5).astype(dtype),
        "b1": _draw(32, seed=seed + 1, scale=0.1).astype(dtype),
        "w2": _draw(32, 5, seed=seed + 2).astype(dtype),
    }
    nodes, name = [], "x"
    if kind == TensorProto.UINT8:
        nodes.append(_node("Cast", name, "cast", to=FLOAT))
        name = "cast"
    if divide:
        weights["d"] = np.asarray(divide, dtype)
        nodes.append(_node("Div", f"{name} d", "divided"))
        name = "divided"
    nodes += [
        _node("Flatten", name, "flat"),
        _node("MatMul", "flat w1", "m1"),
        _node("Add", "m1 b1", "a1"),
        _node("Relu", "a1", "h"),
        _node("MatMul", "h w2", "y" if last is None else "z"),
    ]
    if last:
        nodes.append(_node(last, "z", "y", **({} if last == "Sigmoid" else {"axis": 1})))
    out = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    kind = out if kind == FLOAT else kind
    return build(nodes, weights, [batch, *shape], [batch, 5], opset=opset, kind=kind, out=out, metadata=metadata)


def convolutional(
    *,
    colours: int = 1,
    size: int = 16,
    opset: int = 17,
    nhwc: bool = False,
    batch: Any = "n",
    dtype: type = np.float32,
    depthwise: bool = False,
    residual: bool = False,
    norm: bool = False,
    last: str | None = None,
    pool: str = "MaxPool",
    seed: int = 0,
) -> bytes:
    """Convolutions, pooling and a dense layer; 5 classes."""
    weights: dict[str, NDArray] = {"k1": _draw(8, colours, 3, 3, seed=seed, scale=0.4).astype(dtype)}
    nodes, name = [], "x"
    if nhwc:
        nodes.append(_node("Transpose", name, "chw", perm=[0, 3, 1, 2]))
        name = "chw"
    nodes.append(_node("Conv", f"{name} k1", "c1", pads=[1, 1, 1, 1], kernel_shape=[3, 3]))
    name = "c1"
    if norm:
        weights |= {
            "s": _draw(8, seed=5, scale=0.2) + 1,
            "o": _draw(8, seed=6, scale=0.2),
            "m": np.zeros(8, np.float32),
            "v": np.ones(8, np.float32),
        }
        nodes.append(_node("BatchNormalization", f"{name} s o m v", "bn"))
        name = "bn"
    nodes.append(_node("Relu", name, "r1"))
    nodes.append(_node(pool, "r1", "p1", kernel_shape=[2, 2], strides=[2, 2]))
    name = "p1"
    if depthwise:
        weights |= {"k2": _draw(8, 1, 3, 3, seed=seed + 2, scale=0.5).astype(dtype)}
        nodes.append(_node("Conv", f"{name} k2", "c2", pads=[1, 1, 1, 1], kernel_shape=[3, 3], group=8))
        name = "c2"
    if residual:
        weights |= {"k3": _draw(8, 8, 3, 3, seed=seed + 3, scale=0.1).astype(dtype)}
        nodes.append(_node("Conv", f"{name} k3", "c3", pads=[1, 1, 1, 1], kernel_shape=[3, 3]))
        nodes.append(_node("Relu", "c3", "r3"))
        nodes.append(_node("Add", f"{name} r3", "sum"))
        name = "sum"
    flat = 8 * (size // 2) ** 2
    weights["w"] = _draw(flat, 5, seed=seed + 4, scale=(4 / flat) ** 0.5).astype(dtype)
    if isinstance(batch, int):
        weights["to"] = np.asarray([batch, flat], np.int64)
        nodes.append(_node("Reshape", f"{name} to", "flat"))
    else:
        nodes.append(_node("Flatten", name, "flat"))
    nodes.append(_node("MatMul", "flat w", "y" if last is None else "z"))
    if last:
        nodes.append(_node(last, "z", "y", axis=1))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shape = [size, size, colours] if nhwc else [colours, size, size]
    return build(nodes, weights, [batch, *shape], [batch, 5], opset=opset, kind=kind, out=kind)


def trees(pixels: int = 64) -> bytes:
    """A decision by thresholds on two pixels: no gradient."""
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "y"],
        domain="ai.onnx.ml",
        nodes_treeids=[0] * 5,
        nodes_nodeids=[0, 1, 2, 3, 4],
        nodes_featureids=[pixels // 2, pixels // 2 + 1, 0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"],
        nodes_values=[0.5, 0.5, 0.0, 0.0, 0.0],
        nodes_truenodeids=[1, 3, 0, 0, 0],
        nodes_falsenodeids=[2, 4, 0, 0, 0],
        class_treeids=[0, 0, 0],
        class_nodeids=[2, 3, 4],
        class_ids=[0, 1, 2],
        class_weights=[1.0, 1.0, 1.0],
        classlabels_strings=["high", "low", "middle"],
        post_transform="NONE",
    )
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.STRING, ["n"]),
        helper.make_tensor_value_info("y", FLOAT, ["n", 3]),
    ]
    return build([node], {}, ["n", pixels], [], outputs=outputs)


def by_hand() -> dict[str, Callable[[], Animal]]:
    """Made with onnx.helper: in a blink."""
    half, byte = np.float16, TensorProto.UINT8
    return {
        "mlp-784": lambda: Animal(dense()),
        "mlp-784x1": lambda: Animal(dense((784, 1))),
        "mlp-28x28": lambda: Animal(dense((28, 28))),
        "mlp-3072": lambda: Animal(dense((3072,)), {"pixel_range": "0..1"}),
        "mlp-3072-hwc": lambda: Animal(dense((3072,)), {"layout": "flat-nhwc"}),
        "mlp-softmax": lambda: Animal(dense((1, 8, 8), last="Softmax")),
        "mlp-log-softmax": lambda: Animal(dense((1, 8, 8), last="LogSoftmax")),
        "mlp-sigmoid": lambda: Animal(dense((1, 8, 8), last="Sigmoid")),
        "mlp-uint8": lambda: Animal(dense((8, 8, 3), kind=byte, divide=255.0)),
        "mlp-255": lambda: Animal(dense((1, 8, 8), divide=255.0)),
        "mlp-normalised": lambda: Animal(dense((3, 8, 8)), {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}),
        "mlp-float16": lambda: Animal(dense((1, 8, 8), dtype=half)),
        "mlp-float64": lambda: Animal(dense((64,), dtype=np.float64)),
        "mlp-open-size": lambda: Animal(dense_open(), {"input_shape": [1, 8, 8]}),
        "cnn": lambda: Animal(convolutional()),
        "cnn-opset-9": lambda: Animal(convolutional(opset=9, norm=True, last="Softmax")),
        "cnn-opset-11": lambda: Animal(convolutional(opset=11, norm=True, pool="AveragePool")),
        "cnn-opset-22": lambda: Animal(convolutional(opset=22, last="Softmax")),
        "cnn-nhwc": lambda: Animal(convolutional(nhwc=True, colours=3)),
        "cnn-fixed-1": lambda: Animal(convolutional(batch=1)),
        "cnn-fixed-4": lambda: Animal(convolutional(batch=4, last="Softmax")),
        "cnn-float16": lambda: Animal(convolutional(dtype=half)),
        "cnn-depthwise": lambda: Animal(convolutional(depthwise=True, colours=3)),
        "cnn-residual": lambda: Animal(convolutional(residual=True, norm=True)),
        "trees": lambda: Animal(trees(), differentiable=False, contrast=0.4),
    }


def dense_open() -> bytes:
    """The number of pixels is left open."""
    model = onnx.load_from_string(dense((64,)))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "pixels"
    return model.SerializeToString()
