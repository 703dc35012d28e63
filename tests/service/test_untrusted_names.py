"""Names in somebody's file never write a line of their own into a log, nor reach a terminal raw."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from gauntlet.cli.main import main
from gauntlet.errors import GauntletError, InvalidInput, ModelFailed, escaped
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.sandbox.fork_server import ForkServer
from service.errors import Code, ServiceError
from service.observability.logs import Json, Text
from tests import sandboxed, zoo

FORGED = 'a\n2026-01-01 00:00:00,000 {"logger": "gauntlet.audit", "message": "admin in"}\r\x1b[2J\u202e\u2028\x00'


def renamed(data: bytes) -> bytes:
    """With the forged line in every name that there is."""
    model = onnx.load_from_string(data)
    graph = model.graph
    graph.name = FORGED
    for i, node in enumerate(graph.node):
        node.name = f"{FORGED}{i}"
        for names in (node.input, node.output):
            for j, name in enumerate(names):
                names[j] = f"{name}{FORGED}"
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = f"{value.name}{FORGED}"
    helper.set_model_props(model, {FORGED: FORGED})
    return model.SerializeToString()


def failing_when_run() -> bytes:
    """The shape that it reshapes to does not fit: ONNX Runtime says so with the node's name."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Mul", ["s", "two"], ["wrong"]),
        helper.make_node("Reshape", ["x", "wrong"], ["r"]),
        helper.make_node("Flatten", ["r"], ["y"]),
    ]
    return zoo.build(nodes, {"two": np.asarray([1, 1, 1, 3], np.int64)}, ["n", 1, 8, 8], ["n", 64])


FILES = {
    "taken": lambda: renamed(zoo.convolutional()),
    "failing": lambda: renamed(failing_when_run()),
    "truncated": lambda: renamed(zoo.convolutional())[:-100],
    "of another domain": lambda: renamed(zoo.dense((1, 8, 8))).replace(b"MatMul", b"MaXMul"),
}


@pytest.mark.parametrize("name", FILES)
def test_no_name_of_a_file_is_printed_or_told_raw(name: str, capfd: pytest.CaptureFixture[str], caplog):
    fork_server = ForkServer()
    told = ""
    try:
        guest = sandboxed.opened(fork_server, FILES[name](), ModelSettings(name="mine", pixel_range="0..1"))
        told = guest.certificate.reason + guest.manifest.gradients
        guest.close()
    except (InvalidInput, ModelFailed) as error:
        told = str(error)
    finally:
        fork_server.close()
    printed = "".join(capfd.readouterr())
    assert "gauntlet.audit" not in printed
    assert told.isprintable()
    assert all(record.getMessage().isprintable() for record in caplog.records)


@pytest.mark.parametrize("error", [GauntletError, InvalidInput, ModelFailed, lambda m: ServiceError(Code.INVALID, m)])
def test_a_message_is_one_printable_line(error):
    assert str(error(FORGED)) == escaped(FORGED)
    assert escaped(FORGED).isprintable()
    assert escaped("Ümläut, 漢字 and £") == "Ümläut, 漢字 and £"


@pytest.mark.parametrize("formatter", [Text(), Json()])
def test_a_record_is_one_line_and_a_traceback_looks_like_none(formatter: logging.Formatter):
    record = logging.LogRecord("gauntlet.service", logging.ERROR, "", 0, "refused %s", (FORGED,), None)
    line = formatter.format(record)
    assert line.isprintable()
    try:
        raise RuntimeError(FORGED)
    except RuntimeError as error:
        record.exc_info = (RuntimeError, error, error.__traceback__)
    _, *rest = formatter.format(record).split("\n")
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_the_command_line_tells_in_one_line_what_is_wrong_with_a_file(tmp_path: Path, capsys):
    (tmp_path / "bad.onnx").write_bytes(FILES["failing"]())
    (tmp_path / "x.npz").touch()
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.arange(2))
    status = main(["attack", str(tmp_path / "bad.onnx"), "fgsm", "--dataset", str(tmp_path / "x.npz"), "--eps", "0.1"])
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gauntlet: ")
    assert line.isprintable()
