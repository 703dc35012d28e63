"""Two hundred files that must not be taken, and that must not harm whoever looks at them."""

import gzip
import io
import zipfile
from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests import zoo

FLOAT = TensorProto.FLOAT


def _edited(change: Callable[[onnx.ModelProto], None], data: bytes | None = None) -> bytes:
    model = onnx.load_from_string(data or zoo.dense((1, 8, 8)))
    change(model)
    return model.SerializeToString()


def truncated() -> Iterator[bytes]:
    whole = zoo.convolutional()
    for share in range(1, 60):
        yield whole[: len(whole) * share // 60]


def noise() -> Iterator[bytes]:
    for seed in range(40):
        draw = np.random.default_rng(seed)
        yield draw.bytes(int(draw.integers(1, 20_000)))


def flipped() -> Iterator[bytes]:
    """The words between the weights overwritten: names, operators and sizes that are none."""
    whole = zoo.dense((1, 8, 8))
    for seed in range(30):
        draw, data = np.random.default_rng(seed), bytearray(whole)
        for place in (*draw.integers(0, 60, 2), *draw.integers(len(data) - 60, len(data), 3)):
            data[place] = int(draw.integers(0, 256))
        yield bytes(data)


def huge() -> Iterator[bytes]:
    """Sizes that nothing can hold."""
    for size in (2**20, 2**31, 2**40, 2**62):
        for place in range(1, 4):

            def grow(model: onnx.ModelProto, size: int = size, place: int = place) -> None:
                model.graph.input[0].type.tensor_type.shape.dim[place].dim_value = size

            yield _edited(grow)

        def swell(model: onnx.ModelProto, size: int = size) -> None:
            model.graph.initializer[0].dims[0] = size

        yield _edited(swell)

        def blow(model: onnx.ModelProto, size: int = size) -> None:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray([size, 64], np.int64), "big"))
            made = [helper.make_node("ConstantOfShape", ["big"], ["zeros"])]
            made.append(helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0))
            made.append(helper.make_node("Add", ["z", "zero"], ["y"]))
            model.graph.node[-1].output[0] = "z"
            model.graph.node.extend(made)

        yield _edited(blow)
    yield _edited(lambda model: model.graph.input[0].type.tensor_type.shape.dim[1].__setattr__("dim_value", -5))


def expanding() -> Iterator[bytes]:
    """Bombs: a few bytes that become gigabytes when the model runs."""
    for factor in (2**11, 2**16, 2**20):

        def tile(model: onnx.ModelProto, factor: int = factor) -> None:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray([1, factor, factor], np.int64), "times"))
            model.graph.initializer.append(numpy_helper.from_array(np.asarray([0, 1, 64], np.int64), "row"))
            made = [
                helper.make_node("Reshape", ["x", "row"], ["r"]),
                helper.make_node("Tile", ["r", "times"], ["t"]),
                helper.make_node("ReduceMax", ["t"], ["top"], keepdims=0),
                helper.make_node("Add", ["z", "top"], ["y"]),
            ]
            model.graph.node[-1].output[0] = "z"
            model.graph.node.extend(made)

        yield _edited(tile)
    for sides in ((2**20, 2**20), (2**15, 2**15)):
        yield zoo.build(  # sizes that only the running model computes
            [
                helper.make_node("Shape", ["x"], ["s"]),
                helper.make_node("ReduceMin", ["s"], ["one"], keepdims=0),
                helper.make_node("Mul", ["sides", "one"], ["wide"]),
                helper.make_node("ConstantOfShape", ["wide"], ["zeros"]),
                helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
                helper.make_node("Flatten", ["x"], ["flat"]),
                helper.make_node("Add", ["flat", "zero"], ["y"]),
            ],
            {"sides": np.asarray(sides, np.int64)},
            ["n", 1, 8, 8],
            ["n", 64],
        )


def slow() -> Iterator[bytes]:
    """Few nodes, small tensors, and no end of work."""
    for depth in (200, 1000, 3000):
        edge = 1024
        nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w0"], ["col"])]
        nodes.append(helper.make_node("Mul", ["col1", "w"], ["m0"]))
        nodes.insert(2, helper.make_node("Reshape", ["col", "to"], ["col1"]))
        nodes += [helper.make_node("MatMul", [f"m{i}", "w"], [f"m{i + 1}"]) for i in range(depth)]
        nodes.append(helper.make_node("ReduceMean", [f"m{depth}"], ["y"], axes=[2], keepdims=0))
        yield zoo.build(
            nodes,
            {
                "w": np.full((edge, edge), 1 / edge, np.float32),
                "w0": np.ones((64, edge), np.float32),
                "to": np.asarray([0, edge, 1], np.int64),
            },
            ["n", 1, 8, 8],
            ["n", edge],
        )


def cyclic() -> Iterator[bytes]:
    def ring(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[0] = "y"

    def itself(model: onnx.ModelProto) -> None:
        model.graph.node[1].input[0] = model.graph.node[1].output[0]

    def twice(model: onnx.ModelProto) -> None:
        model.graph.node[1].output[0] = model.graph.node[0].output[0]

    def backwards(model: onnx.ModelProto) -> None:
        nodes = list(model.graph.node)[::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    yield from map(_edited, (ring, itself, twice, backwards))


def elsewhere() -> Iterator[bytes]:
    """Weights that lie in files of the server."""
    for path in ("weights.bin", "/etc/passwd", "../../../../etc/shadow", "/dev/zero", "/proc/self/mem"):

        def move(model: onnx.ModelProto, path: str = path) -> None:
            tensor = model.graph.initializer[0]
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=path)

        yield _edited(move)

        def hide(model: onnx.ModelProto, path: str = path) -> None:
            tensor = model.graph.initializer[0]
            tensor.ClearField("raw_data")
            tensor.external_data.add(key="location", value=path)

        yield _edited(hide)


def loops() -> Iterator[bytes]:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Identity", ["v"], ["w"])],
        "forever",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", FLOAT, None),
        ],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, []), helper.make_tensor_value_info("w", FLOAT, None)],
    )
    for count in (2**40, 2**62):

        def loop(model: onnx.ModelProto, count: int = count) -> None:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(count, np.int64), "count"))
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "true"))
            model.graph.node[-1].output[0] = "z"
            model.graph.node.append(helper.make_node("Loop", ["count", "true", "z"], ["y"], body=inner))

        yield _edited(loop)

    def branch(model: onnx.ModelProto) -> None:
        part = helper.make_graph(
            [helper.make_node("Identity", ["z"], ["b"])], "part", [], [helper.make_tensor_value_info("b", FLOAT, None)]
        )
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "true"))
        model.graph.node[-1].output[0] = "z"
        model.graph.node.append(helper.make_node("If", ["true"], ["y"], then_branch=part, else_branch=part))

    yield _edited(branch)

    def function(model: onnx.ModelProto) -> None:
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        body = [helper.make_node("Forever", ["a"], ["b"], domain="own")]
        model.functions.append(helper.make_function("own", "Forever", ["a"], ["b"], body, opsets))
        model.opset_import.append(helper.make_opsetid("own", 1))
        model.graph.node[-1].output[0] = "z"
        model.graph.node.append(helper.make_node("Forever", ["z"], ["y"], domain="own"))

    yield _edited(function)


def many_nodes() -> Iterator[bytes]:
    for count in (10_000, 100_000):
        nodes = [helper.make_node("Flatten", ["x"], ["n0"])]
        nodes += [helper.make_node("Relu", [f"n{i}"], [f"n{i + 1}"]) for i in range(count)]
        nodes.append(helper.make_node("Relu", [f"n{count}"], ["y"]))
        yield zoo.build(nodes, {}, ["n", 1, 8, 8], ["n", 64])


def foreign() -> Iterator[bytes]:
    """Operators, types and ends that are not those of an image classifier."""
    for domain in ("com.microsoft", "evil", "ai.onnx.training", "org.pytorch.aten"):

        def other(model: onnx.ModelProto, domain: str = domain) -> None:
            model.opset_import.append(helper.make_opsetid(domain, 1))
            model.graph.node[-1].domain = domain

        yield _edited(other)
    for operator in ("Nonesuch", "PythonOp", ""):
        yield _edited(lambda model, operator=operator: setattr(model.graph.node[-1], "op_type", operator))
    for version in (1, 6, 26, 99):
        yield _edited(lambda model, version=version: setattr(model.opset_import[0], "version", version))
    for kind in (TensorProto.STRING, TensorProto.INT64, TensorProto.BOOL, TensorProto.COMPLEX64):

        def typed(model: onnx.ModelProto, kind: int = kind) -> None:
            model.graph.input[0].type.tensor_type.elem_type = kind

        yield _edited(typed)
    for operator in ("RandomNormalLike", "RandomUniformLike", "Bernoulli"):

        def random(model: onnx.ModelProto, operator: str = operator) -> None:
            model.graph.node[-1].output[0] = "z"
            model.graph.node.append(helper.make_node(operator, ["z"], ["y"]))

        yield _edited(random)

    def blank(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = "z"
        model.graph.node.append(helper.make_node("Sub", ["z", "z"], ["zero"]))
        model.graph.node.append(helper.make_node("Div", ["zero", "zero"], ["y"]))

    yield _edited(blank)

    def short(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-8]

    yield _edited(short)
    yield _edited(lambda model: model.graph.input.append(helper.make_tensor_value_info("x2", FLOAT, ["n", 4])))
    yield _edited(lambda model: model.graph.ClearField("output"))
    one = [helper.make_node("GlobalAveragePool", ["x"], ["z"]), helper.make_node("Softmax", ["z"], ["y"], axis=1)]
    yield zoo.build(one, {}, ["n", 1, 8, 8], ["n", 1, 1, 1])


def no_models() -> Iterator[bytes]:
    yield b""
    yield b"\x00" * 100_000
    yield b"x" * 1_000_000
    yield b"<html>not a model</html>"
    yield b'{"json": true}'
    yield b"\x89PNG\r\n\x1a\n" + bytes(1000)
    yield b"PK\x03\x04" + bytes(1000)
    yield gzip.compress(zoo.dense((1, 8, 8)))
    yield gzip.compress(bytes(2**28))  # 256 MiB of zeros in 260 KB
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bomb:
        for i in range(4):
            bomb.writestr(f"layer{i}.onnx", bytes(2**26))
    yield buffer.getvalue()
    yield b"\x0a" * 50_000  # fields that nest without end
    yield b"\x3a\x80\x80\x80\x80\x08" + bytes(50)  # a length that is not there
    yield onnx.ModelProto().SerializeToString()


FAMILIES: dict[str, Callable[[], Iterator[bytes]]] = {
    "truncated": truncated,
    "noise": noise,
    "flipped": flipped,
    "huge": huge,
    "expanding": expanding,
    "slow": slow,
    "cyclic": cyclic,
    "elsewhere": elsewhere,
    "loops": loops,
    "many nodes": many_nodes,
    "foreign": foreign,
    "no models": no_models,
}
