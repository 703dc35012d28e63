"""ONNX Runtime's session: the same answers on every processor."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

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
