"""A child's work: reading somebody's file. Without torch, so that a bad one is refused at once."""

import socket

import numpy as np

from gauntlet.adopt import pictures
from gauntlet.adopt.declared import Declared, DeclaredImages
from gauntlet.adopt.rewrite import adopt
from gauntlet.sandbox.life import Answer, serve
from gauntlet.sandbox.wire import Array, Message


def live(line: socket.socket, _: int) -> None:
    serve(line, {"adopt": _adopt, "pictures": _pictures})


def _adopt(message: Message, arrays: list[Array]) -> Answer:
    adopted = adopt(arrays[0].tobytes(), Declared.model_validate(message["declared"]))
    return {"manifest": adopted.manifest.model_dump_json()}, [np.frombuffer(adopted.graph, np.uint8)]


def _pictures(message: Message, arrays: list[Array]) -> Answer:
    found = pictures.read(arrays[0].tobytes(), DeclaredImages.model_validate(message["declared"]))
    return {"classes": found.classes}, [found.images, found.labels]
