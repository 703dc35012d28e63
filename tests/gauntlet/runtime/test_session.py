"""ONNX Runtime's session: the same answers on every processor."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gauntlet.onnx_import.conversion import adopt
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.runtime.session import Session


@pytest.mark.parametrize("rows", [1, 16])
def test_sums_of_bytes_are_not_clipped(rows: int, tmp_path: Path) -> None:
    """255 x 127 twice is beyond 16 bits, in which a processor without VNNI adds unless it is told not to."""
    x, w = np.full((rows, 64), 255, np.uint8), np.full((64, 8), 127, np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["bytes"]),
        helper.make_node("MatMulInteger", ["bytes", "w", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = [
        numpy_helper.from_array(value, name)
        for name, value in {"w": w, "one": np.float32(1), "zero": np.uint8(0)}.items()
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, n]) for name, n in (("x", 64), ("y", 8))]
    graph = helper.make_graph(nodes, "bytes", values[:1], values[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    answer = Session(tmp_path / "m.onnx").run(x.astype(np.float32))
    assert (answer == 64 * 255 * 127).all()


def test_constants_of_bytes_that_nodes_share_are_taken(tmp_path: Path) -> None:
    """ONNX Runtime fails to rewrite such a graph for exact sums: it is opened all the same, and adopted unshared."""
    draw, one = np.random.default_rng(0), np.float32(1 / 64)
    bytes_ = draw.integers(-128, 128, (64, 64)).astype(np.int8)
    quantised = [
        node
        for name in ("x", "m")
        for node in (
            helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}q"]),
            helper.make_node("DequantizeLinear", [f"{name}q", "s", "z"], [f"{name}f"]),
        )
    ]
    layers = [helper.make_node("DequantizeLinear", ["w", "s", "zw"], [name]) for name in ("w1", "w2")]
    layers += [helper.make_node("MatMul", ["xf", "w1"], ["m"]), helper.make_node("MatMul", ["mf", "w2"], ["y"])]
    weights = {"w": bytes_, "s": one, "z": np.uint8(128), "zw": np.int8(0)}
    graph = helper.make_graph(
        [quantised[0], quantised[1], *layers[:3], quantised[2], quantised[3], layers[3]],
        "shared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 64])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    (tmp_path / "adopted.onnx").write_bytes(adopt(model.SerializeToString(), ModelSettings(name="m")).graph)
    x = draw.random((4, 64), dtype=np.float32)
    codes = np.clip(np.rint(x * 64), -128, 127)
    middle = np.clip(np.rint(codes @ bytes_.astype(np.float64) / 64), -128, 127)
    wanted = middle @ bytes_.astype(np.float64) / 64**2
    assert np.isfinite(Session(tmp_path / "m.onnx").run(x)).all()  # perhaps of clipped sums
    exact = Session(tmp_path / "adopted.onnx").run(x.reshape(4, 1, 8, 8))
    assert np.abs(exact - wanted).max() < 0.01 * np.abs(wanted).max()
