# mypy: disable-error-code="untyped-decorator"
"""A BentoML endpoint as in its tutorial: `bentoml serve bench.serving.peers.plain:Plain`."""

import os
from http import HTTPStatus
from typing import Any

import bentoml
from bentoml.exceptions import BentoMLException

from bench.serving.peers.model import Model


@bentoml.service(
    workers=int(os.environ["PEER_WORKERS"]),
    threads=int(os.environ["PEER_REQUEST_THREADS"]),
    logging={"access": {"enabled": False}},
)
class Plain:
    """One typed endpoint."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api
    def classify(self, model: str, images: list[str], resize: bool = False) -> dict[str, Any]:  # noqa: ARG002
        if model != self.model.name:
            raise BentoMLException("no such model", error_code=HTTPStatus.NOT_FOUND)
        return self.model.classify(self.model.stack(images))
