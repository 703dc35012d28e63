"""The work of every peer on an image: decoding, network, and the fields of /classify, as fast as NumPy allows."""

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[Any]


class Model:
    """The model in the folder PEER_MODEL, with our proof in the file PEER_PROOF and PEER_THREADS threads."""

    def __init__(self) -> None:
        folder = Path(os.environ["PEER_MODEL"])
        manifest = json.loads((folder / "manifest.json").read_text())
        self.name, self.sha256, self.classes = manifest["name"], manifest["files"]["model.onnx"], manifest["classes"]
        self.channels, self.height, self.width = self.shape = tuple(manifest["input_shape"])
        proof = json.loads(Path(os.environ["PEER_PROOF"]).read_text())
        self._lipschitz, self._method = proof["lipschitz"], proof["method"]
        self._relative, self._rounding = proof["relative"], proof["rounding"]
        self._temperature = proof["temperature"]
        self._pairwise = None if proof["pairwise"] is None else np.maximum(np.array(proof["pairwise"]), 1e-300)
        self._session = open_session(folder, int(os.environ["PEER_THREADS"]))
        self._input = self._session.get_inputs()[0].name

    def decode(self, image: str) -> Floats:
        """Decode a base64 PNG to floats (C, H, W) in [0, 1]."""
        picture = Image.open(io.BytesIO(base64.b64decode(image)), formats=("PNG", "JPEG", "WEBP"))
        if picture.size != (self.width, self.height) or picture.mode != ("L" if self.channels == 1 else "RGB"):
            raise ValueError("an image of another size or colour mode")
        pixels = np.asarray(picture, dtype=np.float32).reshape(self.height, self.width, self.channels)
        return pixels.transpose(2, 0, 1) / np.float32(255)

    def stack(self, images: list[str]) -> Floats:
        return np.stack([self.decode(image) for image in images])

    def outputs(self, x: Floats) -> tuple[Floats, Floats, Floats, Floats | None]:
        """Compute logits, probabilities (n, K), margins and certified radii (n,) of images (n, C, H, W)."""
        logits: Floats = self._session.run(None, {self._input: x})[0]
        second, top = np.partition(logits, -2, axis=1)[:, -2:].T
        z = logits.astype(np.float64)
        powers = np.exp((z - z.max(axis=1, keepdims=True)) / self._temperature)
        return logits, powers / powers.sum(axis=1, keepdims=True), top - second, self._radii(z)

    def _radii(self, z: Floats) -> Floats | None:
        if self._pairwise is None:
            return None
        label = z.argmax(axis=1)
        slack = np.maximum(self._relative * np.abs(z).max(axis=1, keepdims=True), self._rounding)
        gaps = (z[np.arange(len(z)), label][:, None] - z - 4 * slack) / self._pairwise[label]
        gaps[np.arange(len(z)), label] = np.inf
        radii: Floats = gaps.min(axis=1).clip(0)
        return radii

    def classify(self, x: Floats) -> dict[str, Any]:
        """Return the answer of /classify for images (n, C, H, W)."""
        _, probabilities, margins, radii = self.outputs(x)
        rows = zip(
            probabilities.tolist(),
            probabilities.argmax(axis=1).tolist(),
            margins.tolist(),
            [None] * len(x) if radii is None else radii.tolist(),
            strict=True,
        )
        predictions = [self._prediction(*row) for row in rows]
        return {"model": self.name, "model_sha256": self.sha256, "predictions": predictions}

    def _prediction(self, row: list[float], label: int, margin: float, radius: float | None) -> dict[str, Any]:
        certificate = None
        if radius is not None:
            certificate = {
                "norm": "l2",
                "radius": radius,
                "method": self._method,
                "lipschitz": self._lipschitz,
                "abstained": radius == 0,
            }
        return {
            "label": label,
            "class_name": self.classes[label],
            "probability": row[label],
            "probabilities": row,
            "margin": margin,
            "certified_radius": radius,
            "certified_linf_radius": None,
            "certificate": certificate,
            "error": None,
        }

    def raw(self, body: bytes) -> tuple[bytes, int]:
        """Classify float32 pixels; return a JSON head followed by the outputs as bytes, and the head's length."""
        logits, probabilities, _, radii = self.outputs(np.frombuffer(body, np.float32).reshape(-1, *self.shape))
        radii = np.zeros(len(logits)) if radii is None else radii
        label = probabilities.argmax(axis=1)
        tensors = {"logits": logits, "probabilities": probabilities, "label": label, "certified_radius": radii}
        described = [
            {"name": name, "shape": array.shape, "parameters": {"binary_data_size": array.nbytes}}
            for name, array in tensors.items()
        ]
        head = json.dumps({"model_name": self.name, "outputs": described}).encode()
        return b"".join([head, *(array.tobytes() for array in tensors.values())]), len(head)


def open_session(folder: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
