"""A child's work: reading somebody's file. Without torch, so that a bad one is refused at once."""

import socket

import numpy as np

from gauntlet.onnx_import import external_weights, labelled_images
from gauntlet.onnx_import.conversion import adopt
from gauntlet.onnx_import.settings import ImageSetSettings, ModelSettings
from gauntlet.sandbox.child_loop import Answer, serve
from gauntlet.sandbox.protocol import Array, Message


def run(line: socket.socket, _: int) -> None:
    serve(line, {"adopt": _adopt, "pictures": _pictures})


def _adopt(message: Message, arrays: list[Array]) -> Answer:
    beside = {name: content.tobytes() for name, content in zip(message["beside"], arrays[1:], strict=True)}
    adopted = adopt(
        arrays[0].tobytes(), ModelSettings.model_validate(message["declared"]), external_weights.among(beside)
    )
    return {"manifest": adopted.manifest.model_dump_json()}, [np.frombuffer(adopted.graph, np.uint8)]


def _pictures(message: Message, arrays: list[Array]) -> Answer:
    found = labelled_images.read(arrays[0].tobytes(), ImageSetSettings.model_validate(message["declared"]))
    return {"classes": found.classes}, [found.images, found.labels]
