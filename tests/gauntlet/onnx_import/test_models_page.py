"""docs/models.md says what is refused in the words in which it is refused, and tries what is tried."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import class_name_files, class_names, detection, preprocessing_files, validation
from gauntlet.onnx_import.companion_files import CompanionFile
from gauntlet.onnx_import.conversion import MODERN, OLD, adopt
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.onnx_import.usual_preprocessing import USUAL
from service.schemas.uploads import MORE_FILES, WEIGHTS
from tests import cases, zoo
from tests.gauntlet.onnx_import.test_forms import edited, floats
from tests.gauntlet.onnx_import.test_pixel_detection import network

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "models.md").read_text()
TOLD = dict(re.findall(r"^\| ([^|]+) \| `([^`]+)` \|$", PAGE.partition("## What is refused")[2], re.MULTILINE))


def changed(change, data: bytes | None = None) -> bytes:
    model = onnx.load_from_string(network() if data is None else data)
    change(model)
    return model.SerializeToString()


def first(operator: str, **given: object) -> onnx.NodeProto:
    return helper.make_node(operator, ["x"], ["p"], **given)


def sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))


def branch() -> onnx.NodeProto:
    part = helper.make_graph([helper.make_node("Identity", ["x"], ["q"])], "part", [], [floats("q", 1)])
    return helper.make_node("If", ["x"], ["p"], then_branch=part, else_branch=part)


def batch_norm() -> bytes:
    sizes = {name: np.ones(3, np.float32) for name in ("s", "b", "m", "v")}
    node = helper.make_node("BatchNormalization", ["x", *sizes], ["p", "m2", "v2"], name="bn", training_mode=1)
    return network(node, **sizes)


def typed(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64


def mapped(model: onnx.ModelProto) -> None:
    del model.graph.output[:]
    model.graph.output.append(floats("c", "batch", 4, 3, 3))


REFUSED = {
    "no ONNX": b"no graph",
    "an older or newer opset": changed(lambda model: model.opset_import[0].__setattr__("version", 6)),
    "loops and branches": network(branch()),
    "operators fused by an optimizer, custom operators": changed(
        lambda model: [
            model.opset_import.append(helper.make_opsetid("com.microsoft", 1)),
            model.graph.node[-1].__setattr__("op_type", "FusedMatMul"),
            model.graph.node[-1].__setattr__("domain", "com.microsoft"),
        ]
    ),
    "random numbers": network(first("RandomNormalLike")),
    "sparse weights": changed(sparse),
    "more nodes than are taken": zoo.build(
        [helper.make_node("Identity", [f"t{i}" if i else "x"], [f"t{i + 1}"]) for i in range(4001)], {}, ["n", 4], []
    ),
    "tensors that are too large": network(side=4100),
    "weights left behind": cases.read("torch_default.onnx"),
    "several inputs": changed(lambda model: model.graph.input.append(floats("x2", "batch", 4))),
    "inputs that are no pixels": changed(typed, network(first("Cast", to=TensorProto.FLOAT))),
    "four channels": zoo.dense((4, 8, 8)),
    "a size that is left open": zoo.dense_open(),
    "large images": network(side=1025),
    "maps instead of rows (segmentation, detection)": changed(mapped),
    "several answers": edited(
        floats("z", "batch", 10),
        floats("q", "batch", 10),
        nodes=(helper.make_node("Neg", ["y"], ["z"]), helper.make_node("Abs", ["y"], ["q"])),
    ),
    "more classes than are taken": network(classes=10_001),
    "training mode": batch_norm(),
    "NaN": network(first("Log")),
    "declared names that do not fit": network(),
    "a declared file of names that does not fit": network(),
}
SAID = {"declared names that do not fit": {"classes": ("cat", "dog")}}
FILES = {"a declared file of names that does not fit": [CompanionFile("labels.txt", b"cat\ndog\n", given=True)]}


def test_every_message_has_an_example():
    assert TOLD.keys() == REFUSED.keys()


@pytest.mark.parametrize("what", TOLD)
def test_the_message_is_the_one_that_is_told(what: str):
    with pytest.raises(InvalidInput) as caught:
        adopt(REFUSED[what], ModelSettings(name="m", **SAID.get(what, {})), companions=FILES.get(what, []))
    assert str(caught.value) == TOLD[what]


def test_limits_lists_and_names_are_those_of_the_code():
    assert f"{validation.MAX_BYTES:,} bytes with the weights; {validation.MAX_NODES:,} nodes" in PAGE
    assert (validation.MAX_WEIGHTS, validation.MAX_VALUES) == (2**30, 2**24)
    assert (
        f"{validation.OPSETS.start} to {validation.OPSETS.stop - 1}; files below {OLD} are converted to {MODERN}"
        in PAGE
    )
    assert f"at most {detection.MAX_SIDE} pixels a side" in PAGE
    assert f"2 to {detection.MAX_CLASSES:,} numbers" in PAGE
    assert f"parts `{WEIGHTS}` of an upload, at most {MORE_FILES[WEIGHTS]}" in PAGE
    companions = (*class_name_files.USUAL, *preprocessing_files.USUAL)
    assert all(f"`{name}`" in PAGE for name in (*companions, *class_names.KEYS))
    numbers = [
        number for usual in USUAL.values() if usual.declarable for number in (usual.mean or ()) + (usual.std or ())
    ]
    assert not [number for number in numbers if f"{number:g}" not in PAGE]
