"""The child process that reads an uploaded file. Without torch, so that a bad file is refused at once."""

import os
import socket
from functools import partial

from gauntlet.onnx_import import companion_files, external_weights, labelled_images
from gauntlet.onnx_import.companion_files import CompanionFile
from gauntlet.onnx_import.conversion import COMPANIONS, adopt
from gauntlet.onnx_import.settings import ImageSetSettings, ModelSettings
from gauntlet.sandbox.child_loop import Answer, serve
from gauntlet.sandbox.protocol import Array, Message


def run(line: socket.socket, _: int, files: list[int]) -> None:
    """Answer requests about the open ``files`` until the parent closes the socket."""
    serve(line, {"adopt": partial(_adopt, files), "pictures": partial(_pictures, files)})


def _adopt(files: list[int], message: Message, _: list[Array]) -> Answer:
    """Convert a model. The first of the files is the model; the converted graph is written to the last."""
    model, *more, graph = files
    count = len(message["beside"])
    beside = {name: partial(_content, file) for name, file in zip(message["beside"], more[:count], strict=True)}
    given = zip(message["names"], more[count:], strict=True)
    names = [CompanionFile(name, _content(file), given=True) for name, file in given]
    declared, find = ModelSettings.model_validate(message["declared"]), external_weights.among(beside)
    adopted = adopt(_content(model), declared, find, [*names, *companion_files.among(find, COMPANIONS)])
    with os.fdopen(graph, "wb", closefd=False) as file:
        file.write(adopted.graph)
    return {"manifest": adopted.manifest.model_dump_json()}, []


def _pictures(files: list[int], message: Message, _: list[Array]) -> Answer:
    found = labelled_images.read(_content(files[0]), ImageSetSettings.model_validate(message["declared"]))
    return {"classes": found.classes}, [found.images, found.labels]


def _content(file: int) -> bytes:
    with os.fdopen(os.dup(file), "rb") as opened:
        opened.seek(0)
        return opened.read()
