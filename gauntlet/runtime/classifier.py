"""An opened artefact: ONNX Runtime to serve it, its torch twin to attack it, and its certificate.

The twin is converted from the file that is served, and refused unless it passes ``gradient_check`` (or, if the model is
quantised, ``straight_through.check``): an attack on another function would measure nothing. If the manifest of a user's
model declares that it has no gradients, only black-box attacks are run on it.
"""

import dataclasses
import functools
import hashlib
import io
import logging
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import onnxruntime as ort
import torch
from torch import Tensor, nn

from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.manifest import MODEL_FILE, STRAIGHT_THROUGH, ClassifierManifest, GeneratorManifest
from gauntlet.bounds import onnx_reader
from gauntlet.bounds.bounder import Bounder, GraphBounder
from gauntlet.bounds.builder import Unboundable
from gauntlet.certify import lipschitz
from gauntlet.certify.lipschitz import Certificate
from gauntlet.certify.proof_cache import ProofCache
from gauntlet.errors import ArtefactError, DeviceError, InvalidInput, reason
from gauntlet.runtime import core_count, gradient_check, straight_through
from gauntlet.runtime.served import NO_CUDA, Device
from gauntlet.runtime.session import THREAD_POOL, Session
from gauntlet.runtime.twin import Batched, Opaque, open_twin

LOGGER = logging.getLogger("gauntlet.runtime")
SAFETY_FACTOR = 10  # a certificate allows for this many times the largest rounding error that was measured

THREAD_POOL.resize(torch.get_num_threads())


def choose_device(device: Device = "auto") -> torch.device:
    """Return the device to compute on. Raises DeviceError if CUDA is required and torch or ONNX Runtime lacks it."""
    if device == "cpu":  # to check for CUDA would reserve more address space than a sandbox has
        return torch.device("cpu")
    usable = torch.cuda.is_available() and "CUDAExecutionProvider" in ort.get_available_providers()
    if device == "cuda" and not usable:
        raise DeviceError(NO_CUDA)
    return torch.device("cuda" if usable else "cpu")


def use_threads(count: int) -> None:
    """Set the number of threads of torch and of ONNX Runtime in this process; 0: one for each core that it may use."""
    torch.set_num_threads(count or core_count.available())
    THREAD_POOL.resize(torch.get_num_threads())


class _Served:
    """Base of opened artefacts: the graph in an ONNX Runtime session."""

    def __init__(self, artefact: artefact_folders.Artefact, device: torch.device) -> None:
        self.name = artefact.manifest.name
        self.device = device
        untrusted = artefact.manifest.training is None
        self._session = Session(artefact.model_path, cuda=device.type == "cuda", untrusted=untrusted)

    def _run(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self._session.run(x.detach().cpu().numpy()))


class Generator(_Served):
    """A generator: from latents to images."""

    def __init__(self, artefact: artefact_folders.Artefact, device: torch.device) -> None:
        assert isinstance(artefact.manifest, GeneratorManifest)
        super().__init__(artefact, device)
        self.manifest = artefact.manifest

    def generate(self, latents: Tensor) -> Tensor:
        """Turn standard normal latents (B, latent_dim) into images (B, C, H, W), float32 in [0, 1], on the CPU."""
        return self._run(latents).clamp(0, 1)


class Classifier(Protocol):
    """The interface of a model for attacks, checks and reports, whether it runs in this process or in a child."""

    name: str
    manifest: ClassifierManifest
    certificate: Certificate
    device: torch.device

    @property
    def twin(self) -> nn.Module:
        """The torch module from images (B, C, H, W) on ``device`` to logits (B, K) that gradients come from."""
        ...

    @property
    def bounder(self) -> Bounder:
        """Sound bounds of the logits. Raises Unboundable if a node of the graph has no rule."""
        ...

    def predict(self, x: Tensor) -> Tensor:
        """Return the served logits (B, K), float32, on the CPU, of images (B, C, H, W) in [0, 1]."""
        ...


class OnnxClassifier(_Served):
    """A classifier in this process: ``predict`` as it is served, ``twin`` for gradients, and its certificate.

    If the cache ``proofs`` has a record of the file, the file is not verified and proved again. Then only the ONNX
    Runtime session is opened, and the twin is converted when gradients are first needed. If a certificate cannot be
    saved, the model is opened anyway, and a warning is logged.
    """

    def __init__(
        self, artefact: artefact_folders.Artefact, device: torch.device, proofs: ProofCache | None = None
    ) -> None:
        assert isinstance(artefact.manifest, ClassifierManifest)
        super().__init__(artefact, device)
        self.manifest = artefact.manifest
        self._path = artefact.model_path
        self._descriptor = os.open(self._path, os.O_RDONLY)  # the folder may be deleted before bounds are computed
        weakref.finalize(self, os.close, self._descriptor)
        known = None if proofs is None else proofs.load(self.manifest.model_sha256, device.type)
        self.certificate = known or self._prove()
        if proofs is not None and known is None:
            try:
                proofs.save(self.manifest.model_sha256, device.type, self.certificate)
            except OSError as error:
                LOGGER.warning("the certificate of %s is not saved in the cache: %s", self.name, error)

    @functools.cached_property
    def twin(self) -> nn.Module:
        """The file as a torch module; if it has no usable gradients, a module that only returns the served logits."""
        if not self.manifest.differentiable:
            return Opaque(self.predict)
        twin, fixed = open_twin(self._path).to(self.device), self._session.fixed
        return twin if fixed is None else Batched(twin, fixed)

    @functools.cached_property
    def bounder(self) -> Bounder:
        """The bounds of the file's graph, computed on the CPU, also if the model is served on another device.

        Raises Unboundable if a node has no rule, or the file has changed since it was opened.
        """
        data = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        if hashlib.sha256(data).hexdigest() != self.manifest.model_sha256:
            raise Unboundable(f"{MODEL_FILE} has been changed since it was opened")
        return GraphBounder(onnx_reader.read(io.BytesIO(data)), len(self.manifest.classes))

    def _prove(self) -> Certificate:
        """Verify the twin and prove the certificate. Raises ArtefactError with the reason if the twin is refused."""
        if not self.manifest.differentiable:
            return Certificate(None, None, "no certificate: nothing to measure rounding against")
        shape, classes = self.manifest.input_shape, len(self.manifest.classes)
        try:
            if self.manifest.gradients == STRAIGHT_THROUGH:
                straight_through.check(self.twin, self.predict, shape, self.device)
            else:
                gradient_check.check(self.twin, self.predict, shape, classes, self.device)
            proved = lipschitz.prove(self._path)
            if proved.lipschitz is None:
                return proved
            error = gradient_check.rounding(self.twin, self.predict, shape, self.device)
            return dataclasses.replace(proved, rounding=SAFETY_FACTOR * error)
        except ArtefactError as error:
            raise ArtefactError(f"{self._path}: {error}") from error
        except Exception as error:  # the conversion, or a run of the converted graph, may raise any exception
            raise ArtefactError(f"{self._path}: its torch twin cannot be used ({reason(error)})") from error

    def predict(self, x: Tensor) -> Tensor:
        """Compute with ONNX Runtime the logits (B, K), float32, on the CPU, of images (B, C, H, W) in [0, 1]."""
        return self._run(x)


def open_model(
    artefact: artefact_folders.Artefact, device: Device = "auto", proofs: ProofCache | None = None
) -> OnnxClassifier | Generator:
    """Open an artefact; a certificate in ``proofs`` is reused. Raises ArtefactError or DeviceError."""
    chosen = choose_device(device)
    if chosen.type == "cuda":  # TF32 would round the gradients and logits of the twin to 10 bits
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    if isinstance(artefact.manifest, ClassifierManifest):
        return OnnxClassifier(artefact, chosen, proofs)
    return Generator(artefact, chosen)


def open_all(
    root: Path, device: Device = "auto", only: Sequence[str] | None = None, proofs: ProofCache | None = None
) -> dict[str, OnnxClassifier | Generator]:
    """Open the artefacts under ``root``, all or those in ``only``, and return them by name.

    Raises ArtefactError or DeviceError, and InvalidInput for a name in ``only`` that no artefact has.
    """
    artefacts = artefact_folders.load_all(root)
    for name in only or ():
        if name not in artefacts:
            raise InvalidInput(f"no model is called {name!r}; there are {', '.join(artefacts)}", "model")
    return {
        name: open_model(artefact, device, proofs) for name, artefact in artefacts.items() if not only or name in only
    }
