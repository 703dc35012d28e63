"""Artefacts as they are served, by ONNX Runtime alone: numpy in, numpy out. Does not import torch."""

from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from gauntlet.artifacts.manifest import ClassifierManifest, GeneratorManifest
from gauntlet.certify.lipschitz import Certificate
from gauntlet.errors import DeviceError
from gauntlet.runtime.cuda_driver import cuda_devices
from gauntlet.runtime.interval_radii import open_intervals
from gauntlet.runtime.session import Session

Device = Literal["auto", "cuda", "cpu"]
DeviceKind = Literal["cuda", "cpu"]
Floats = NDArray[np.float32]

NO_CUDA = "GAUNTLET_DEVICE=cuda, but there is no usable CUDA device; set it to auto or cpu, or repair the driver"


def device_kind(device: Device = "auto") -> DeviceKind:
    """Return the device to serve on. Raises DeviceError if CUDA is required and the driver or ONNX Runtime lacks it."""
    if device == "cpu":
        return "cpu"
    usable = "CUDAExecutionProvider" in ort.get_available_providers() and cuda_devices() > 0
    if device == "cuda" and not usable:
        raise DeviceError(NO_CUDA)
    return "cuda" if usable else "cpu"


class ServedClassifier:
    """A classifier with its certificate, and its interval bounds if it was trained for them."""

    def __init__(self, path: Path, manifest: ClassifierManifest, certificate: Certificate, device: DeviceKind) -> None:
        self.name, self.manifest, self.certificate = manifest.name, manifest, certificate
        self._session = Session(path, cuda=device == "cuda", untrusted=manifest.training is None)
        self.intervals = None if manifest.interval_eps is None else open_intervals(path, manifest.interval_eps)

    def predict(self, x: Floats) -> Floats:
        """Return the logits (B, K) of images (B, C, H, W) in [0, 1]."""
        return self._session.run(x)


class ServedGenerator:
    """A generator: from latents to images."""

    def __init__(self, path: Path, manifest: GeneratorManifest, device: DeviceKind) -> None:
        self.name, self.manifest = manifest.name, manifest
        self._session = Session(path, cuda=device == "cuda", untrusted=manifest.training is None)

    def generate(self, latents: Floats) -> Floats:
        """Turn standard normal latents (B, latent_dim) into images (B, C, H, W) in [0, 1]."""
        return np.clip(self._session.run(latents), 0, 1)
