"""A child's work: reading somebody's file. Without torch, so that a bad one is refused at once."""

import socket

import numpy as np

from gauntlet.adopt import Declared, adopt
from gauntlet.sandbox.life import Answer, serve
from gauntlet.sandbox.wire import Array, Message


def live(line: socket.socket, _: int) -> None:
    serve(line, {"adopt": _adopt})


def _adopt(message: Message, arrays: list[Array]) -> Answer:
    adopted = adopt(arrays[0].tobytes(), Declared.model_validate(message["declared"]))
    return {"manifest": adopted.manifest.model_dump_json()}, [np.frombuffer(adopted.graph, np.uint8)]
