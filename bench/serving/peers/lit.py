# mypy: disable-error-code="misc"
"""LitServe: `python -m bench.serving.peers.lit PORT`."""

import os
import sys
from typing import Any

import litserve
import numpy as np
from fastapi import HTTPException

from bench.serving.peers.model import Floats, Model


class Api(litserve.LitAPI):
    """Decodes and predicts in its worker; with a batch size above 1, for several requests at once."""

    def setup(self, device: str) -> None:  # noqa: ARG002  always the CPU
        self.model = Model()

    def decode_request(self, request: dict[str, Any]) -> Floats:
        if request["model"] != self.model.name:
            raise HTTPException(404)
        try:
            return self.model.stack(request["images"])
        except (OSError, ValueError) as error:
            raise HTTPException(422, str(error)) from error

    def batch(self, inputs: list[Floats]) -> tuple[Floats, list[int]]:
        return np.concatenate(inputs), [len(x) for x in inputs]

    def predict(self, x: Floats | tuple[Floats, list[int]]) -> Any:
        if not isinstance(x, tuple):
            return self.model.classify(x)
        images, sizes = x
        return self.model.classify(images), sizes

    def unbatch(self, output: tuple[dict[str, Any], list[int]]) -> Any:
        answer, sizes = output
        ends = np.cumsum(sizes).tolist()
        return [
            {**answer, "predictions": answer["predictions"][end - size : end]}
            for size, end in zip(sizes, ends, strict=True)
        ]

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    together = int(os.environ["PEER_TOGETHER"])
    api = Api(api_path="/classify", max_batch_size=together, batch_timeout=0.001 if together > 1 else 0.0)
    workers, doors = int(os.environ["PEER_WORKERS"]), int(os.environ["PEER_DOORS"])
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers)
    options = {"generate_client_file": False, "log_level": "error", "access_log": False, "pretty_logs": False}
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=doors, **options)
