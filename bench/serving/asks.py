"""The requests: images of an evaluation set, as PNGs in JSON or as binary floats, with their expected labels."""

import base64
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.serving.load import Answer, Ask, http
from gauntlet.artifacts import artefact_folders, evaluation_sets, image_conversion
from gauntlet.runtime.classifier import OnnxClassifier, open_model

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
DISTINCT = 512
"""Number of different images, which the requests use in turn."""
LENGTH = "Inference-Header-Content-Length"


class Asks:
    """Requests for one model, in several formats."""

    def __init__(self, name: str) -> None:
        model = open_model(artefact_folders.load(MODELS / "artifacts" / name), "cpu")
        assert isinstance(model, OnnxClassifier)
        self.model, self.folder = model, MODELS / "artifacts" / name
        self.x = torch.from_numpy(
            evaluation_sets.load(MODELS / "evalsets" / f"{model.manifest.dataset}.npz").head(DISTINCT)[0]
        )
        self.labels: list[int] = model.predict(self.x).argmax(dim=1).tolist()
        self.pngs = [base64.b64encode(image_conversion.to_png(image)).decode() for image in self.x]

    def png(self, size: int) -> list[Ask]:
        """POST /classify with ``size`` PNGs each."""
        bodies = [json.dumps({"model": self.model.name, "images": self.pngs[part]}).encode() for part in _parts(size)]
        return self._asks([http("POST", "/classify", body) for body in bodies], size, classified)

    def oip(self, size: int) -> list[Ask]:
        """Open Inference Protocol, with binary tensors in request and answer."""
        path = f"/v2/models/{self.model.name}/infer"
        return self._asks([_oip(path, self.x[part]) for part in _parts(size)], size, inferred)

    def raw(self, size: int) -> list[Ask]:
        """The binary format of a peer: float32 pixels; the answer is as in the Open Inference Protocol."""
        binary = {"Content-Type": "application/octet-stream"}
        bodies = [self.x[part].numpy().tobytes() for part in _parts(size)]
        return self._asks([http("POST", "/raw", body, binary) for body in bodies], size, inferred)

    def _asks(self, requests: Sequence[bytes], size: int, read: Callable[[Answer], list[int] | None]) -> list[Ask]:
        def right(part: slice, answer: Answer) -> bool:
            return read(answer) == self.labels[part]

        parts = zip(requests, _parts(size), strict=True)
        return [Ask(request, functools.partial(right, part), size) for request, part in parts]


def _parts(size: int) -> Sequence[slice]:
    return [slice(start, start + size) for start in range(0, DISTINCT - size + 1, size)]


def _oip(path: str, x: Tensor) -> bytes:
    """Return a request that wants all outputs as binary tensors."""
    pixels = x.numpy().astype("<f4").tobytes()
    tensor = {"name": "images", "datatype": "FP32", "shape": list(x.shape)}
    head = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": len(pixels)}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return http("POST", path, head + pixels, {"Content-Type": "application/octet-stream", LENGTH: str(len(head))})


def classified(answer: Answer) -> list[int] | None:
    """Return the labels of an answer in the format of /classify, or None for an error."""
    return [one["label"] for one in json.loads(answer.body)["predictions"]] if answer.status == 200 else None


def inferred(answer: Answer) -> list[int] | None:
    """Return the labels of an answer with binary tensors, or None for an error."""
    if answer.status != 200:
        return None
    start = int(answer.headers[LENGTH.lower()])
    for tensor in json.loads(answer.body[:start])["outputs"]:
        size = tensor["parameters"]["binary_data_size"]
        if tensor["name"] == "label":
            data = answer.body[start : start + size]
            return [int.from_bytes(data[i : i + 8], "little") for i in range(0, size, 8)]
        start += size
    return None
