"""A child's work: reading somebody's file. Without torch, so that a bad one is refused at once."""

import socket

import numpy as np

from gauntlet.onnx_import import companion_files, external_weights, labelled_images
from gauntlet.onnx_import.companion_files import CompanionFile
from gauntlet.onnx_import.conversion import COMPANIONS, adopt
from gauntlet.onnx_import.settings import ImageSetSettings, ModelSettings
from gauntlet.sandbox.child_loop import Answer, serve
from gauntlet.sandbox.protocol import Array, Message


def run(line: socket.socket, _: int) -> None:
    serve(line, {"adopt": _adopt, "pictures": _pictures})


def _adopt(message: Message, arrays: list[Array]) -> Answer:
    files = [content.tobytes() for content in arrays[1:]]
    count = len(message["beside"])
    beside = dict(zip(message["beside"], files[:count], strict=True))
    names = [
        CompanionFile(name, content, given=True) for name, content in zip(message["names"], files[count:], strict=True)
    ]
    declared, find = ModelSettings.model_validate(message["declared"]), external_weights.among(beside)
    adopted = adopt(arrays[0].tobytes(), declared, find, [*names, *companion_files.among(find, COMPANIONS)])
    return {"manifest": adopted.manifest.model_dump_json()}, [np.frombuffer(adopted.graph, np.uint8)]


def _pictures(message: Message, arrays: list[Array]) -> Answer:
    found = labelled_images.read(arrays[0].tobytes(), ImageSetSettings.model_validate(message["declared"]))
    return {"classes": found.classes}, [found.images, found.labels]
