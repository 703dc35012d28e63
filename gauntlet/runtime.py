"""A verified artefact made runnable: ONNX Runtime to serve it, its torch twin to attack it, its certificate.

The twin is converted from the very file that is served, and refused unless its logits agree with ONNX Runtime and its
gradients with finite differences: an attack on another function would measure nothing. A manifest may say that
somebody's own model has no gradients: then only black-box attacks are run on it.
"""

import copy
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gauntlet import certify, cores, graph, store
from gauntlet.certify import Certificate
from gauntlet.conversion import ConvertModel
from gauntlet.crew import Crew
from gauntlet.errors import ArtefactError, DeviceError, InvalidInput
from gauntlet.manifest import ClassifierManifest, GeneratorManifest
from gauntlet.randomness import Keyed
from gauntlet.threat import l2, unit

Device = Literal["auto", "cuda", "cpu"]

PARITY = 1e-4  # logits of the twin and of ONNX Runtime, relative to 1 + the largest logit
GRADIENT = 1e-2  # autograd against finite differences, relative to the gradient's length
PROBES = 8
CAUTION = 10  # a certificate allows for this many times the largest rounding error found
LEAST, BATCH = 8, 512  # images that one call of ONNX Runtime gets

CREW = Crew(torch.get_num_threads())
"""What computes on the CPU. Calls with a thread each, side by side, take less processor time than one on all cores."""
ALONE = Crew(1)  # on a GPU


def choose_device(device: Device = "auto") -> torch.device:
    """Where to compute. Raises DeviceError where CUDA is demanded and torch or ONNX Runtime lacks it."""
    if device == "cpu":  # asking for CUDA would reserve more address space than a sandbox has
        return torch.device("cpu")
    usable = torch.cuda.is_available() and "CUDAExecutionProvider" in ort.get_available_providers()
    if device == "cuda" and not usable:
        raise DeviceError(
            "GAUNTLET_DEVICE=cuda, but there is no usable CUDA device; set it to auto or cpu, or mend the driver"
        )
    return torch.device("cuda" if usable else "cpu")


def use_threads(count: int) -> None:
    """Let this process compute on so many cores, torch's and ONNX Runtime's; 0: all that it may use."""
    torch.set_num_threads(count or cores.available())
    CREW.resize(torch.get_num_threads())


def open_session(path: Path, device: torch.device) -> ort.InferenceSession:
    """An ONNX Runtime session on this device; it raises instead of falling back to the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # a Crew spreads the images
    providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
    if device.type == "cuda":
        ort.preload_dlls()
        providers = [("CUDAExecutionProvider", {"use_tf32": "0"}), *providers]
    try:
        session = ort.InferenceSession(path, options, providers=providers)
    except Exception as error:  # ONNX Runtime's own exceptions share no base
        raise ArtefactError(f"{path}: ONNX Runtime refuses it ({error})") from error
    if device.type == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise DeviceError(
            "ONNX Runtime could not start its CUDA provider and fell back to the CPU; its libraries are incomplete"
        )
    return session


class _Session:
    """One input tensor, one output tensor; safe to call from several threads.

    Any number of images, also where the graph takes a fixed one: then it is asked as often as needed.
    """

    def __init__(self, artefact: store.Artefact, device: torch.device) -> None:
        self.name = artefact.manifest.name
        self.device = device
        self._session = open_session(artefact.model_path, device)
        self._crew = CREW if device.type == "cpu" else ALONE
        door = self._session.get_inputs()[0]
        self._input, self.fixed = door.name, door.shape[0] if isinstance(door.shape[0], int) else None

    def _run(self, x: Tensor) -> Tensor:
        array = np.ascontiguousarray(x.detach().cpu().numpy(), dtype=np.float32)
        if self.fixed is not None:
            array = np.resize(array, (-(-len(x) // self.fixed) * self.fixed, *array.shape[1:]))
        parts = self._crew.parts(len(array), self.fixed or LEAST, self.fixed or BATCH)
        answers = np.concatenate(self._crew.map(self._answer, [array[part] for part in parts]))
        return torch.from_numpy(answers[: len(x)])

    def _answer(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        answer: NDArray[np.float32] = self._session.run(None, {self._input: part})[0]
        return answer


class Generator(_Session):
    """Latents to images."""

    def __init__(self, artefact: store.Artefact, device: torch.device) -> None:
        assert isinstance(artefact.manifest, GeneratorManifest)
        super().__init__(artefact, device)
        self.manifest = artefact.manifest

    def generate(self, latents: Tensor) -> Tensor:
        """Standard normal latents (B, latent_dim) to images (B, C, H, W), float32 in [0, 1], on the CPU."""
        return self._run(latents).clamp(0, 1)


class Classifier(_Session):
    """Images to logits, twice: as served (``predict``) and for gradients (``twin``); with what is proved of it."""

    def __init__(self, artefact: store.Artefact, device: torch.device) -> None:
        assert isinstance(artefact.manifest, ClassifierManifest)
        super().__init__(artefact, device)
        self.manifest = artefact.manifest
        self.twin: nn.Module
        if self.manifest.differentiable:
            self.twin = open_twin(artefact.model_path).to(device)
            self.twin = self.twin if self.fixed is None else Batched(self.twin, self.fixed)
            error = _check_twin(self, artefact.model_path)
            self.certificate = dataclasses.replace(certify.prove(artefact.model_path), rounding=CAUTION * error)
        else:
            self.twin = Opaque(self.predict)
            self.certificate = Certificate(None, None, "no certificate: nothing to measure rounding against")

    def predict(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to logits (B, K), float32, on the CPU, by ONNX Runtime."""
        return self._run(x)


class Batched(nn.Module):
    """A network that takes a fixed number of images at once, as one that takes any number."""

    def __init__(self, inner: nn.Module, size: int) -> None:
        super().__init__()
        self.inner, self.size = inner, size

    def forward(self, x: Tensor) -> Tensor:
        whole = torch.cat([x, x[:1].expand(-len(x) % self.size, *x.shape[1:])])
        return torch.cat([self.inner(part) for part in torch.split(whole, self.size)])[: len(x)]


class Opaque(nn.Module):
    """In the place of a twin where there is none: the served logits, without gradients."""

    def __init__(self, predict: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._predict = predict

    def forward(self, x: Tensor) -> Tensor:
        return self._predict(x).to(x.device)


def open_twin(path: Path) -> nn.Module:
    """The file as a torch module in evaluation mode, parameters frozen. Raises ArtefactError if it cannot be had."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # onnx2pytorch warns of what the parity gate below decides
            twin = ConvertModel(graph.with_cheap_gradients(graph.read(path)))
    except Exception as error:  # onnx2pytorch raises whatever its conversion meets
        raise ArtefactError(f"{path}: cannot be converted to torch for its gradients ({error})") from error
    return twin.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # on CPUs twice as fast


def doubled(twin: nn.Module) -> nn.Module:
    """A twin in float64, all of it: a layer normalisation would sum in float32 otherwise."""
    made = copy.deepcopy(twin).double()
    for part in made.modules():
        if getattr(part, "accumulation_dtype", None) is torch.float32:
            part.accumulation_dtype = torch.float64  # type: ignore[assignment]
    return made


def _check_twin(model: Classifier, path: Path) -> float:
    """Logits against ONNX Runtime, on noise and a gradient step from it; gradients against finite differences.

    Returns the largest rounding error of a served logit, against the twin in float64.
    """
    keys = Keyed.span(0, 0, PROBES, model.device)
    x = keys.uniform(0, model.manifest.input_shape).requires_grad_()
    weights = keys.normal(1, (len(model.manifest.classes),))  # a random direction in logit space
    try:
        logits = model.twin(x)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), x)
    except Exception as error:  # whatever the converted graph meets when it runs
        raise ArtefactError(f"{path}: its torch twin does not run or has no gradient ({error})") from error
    x = x.detach()
    for images in (x, (x + 0.1 * gradient.sign()).clamp(0, 1)):
        served = model.predict(images)
        gap = float((model.twin(images).cpu() - served).abs().max())
        if not gap <= PARITY * (1 + float(served.abs().max())):
            raise ArtefactError(f"{path}: torch twin and ONNX Runtime disagree by {gap:.3g} in a logit")
    alone = model.predict(x[:1])
    if not torch.allclose(alone, model.predict(x)[:1], rtol=PARITY, atol=PARITY):
        raise ArtefactError(f"{path}: its answer to an image depends on the rest of the batch")
    try:
        twin = doubled(model.twin)
        for direction in (unit(gradient), unit(keys.normal(2, model.manifest.input_shape))):
            step = 1e-6 * direction.double()
            ahead, behind = (((twin(x.double() + s)) * weights).flatten(1).sum(1) for s in (step, -step))
            expected = (gradient * direction).flatten(1).sum(1)
            if not bool((((ahead - behind) / 2e-6 - expected).abs() <= GRADIENT * l2(gradient) + 1e-6).all()):
                raise ArtefactError(f"{path}: the gradients of its torch twin disagree with finite differences")
        return _rounding(model, twin, x)
    except (RuntimeError, TypeError) as error:  # what cannot be copied or computed in float64
        raise ArtefactError(f"{path}: its torch twin does not run in float64 ({error})") from error


def _rounding(model: Classifier, twin: nn.Module, x: Tensor) -> float:
    """Largest error of a served logit against float64, on noise and on flat images."""
    shades = torch.linspace(0, 1, PROBES, device=x.device).view(-1, 1, 1, 1)
    worst = 0.0
    for images in (x, shades.expand_as(x), shades * x, x.round()):
        exact = twin(images.double()).cpu()
        worst = max(worst, float((model.predict(images).double() - exact).abs().max()))
    return worst


def open_model(artefact: store.Artefact, device: Device = "auto") -> Classifier | Generator:
    """Make an artefact runnable. Raises ArtefactError or DeviceError."""
    place = choose_device(device)
    if place.type == "cuda":  # TF32 would round the gradients and logits of the twin to 10 bits
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    if isinstance(artefact.manifest, ClassifierManifest):
        return Classifier(artefact, place)
    return Generator(artefact, place)


def open_all(
    root: Path, device: Device = "auto", only: Sequence[str] | None = None
) -> dict[str, Classifier | Generator]:
    """The artefacts under ``root`` by name: all, or those named. ArtefactError, or InvalidInput for a wrong name."""
    artefacts = store.load_all(root)
    for name in only or ():
        if name not in artefacts:
            raise InvalidInput(f"no model is called {name!r}; there are {', '.join(artefacts)}", "model")
    return {name: open_model(artefact, device) for name, artefact in artefacts.items() if not only or name in only}
