"""A classifier whose network runs in a child process; attacks, referee and reports use it like any other."""

import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Self

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from gauntlet.artifacts.manifest import ClassifierManifest
from gauntlet.bounds.bounder import Bounder
from gauntlet.bounds.builder import Unboundable
from gauntlet.bounds.prover import METHODS, Method, Proof
from gauntlet.certify.lipschitz import Certificate
from gauntlet.errors import InvalidInput, ModelFailed, escaped
from gauntlet.norms import Norm
from gauntlet.onnx_import import labelled_images
from gauntlet.onnx_import.labelled_images import Pictures
from gauntlet.onnx_import.settings import ImageSetSettings, ModelSettings
from gauntlet.runtime.session import at_once
from gauntlet.runtime.twin import Opaque
from gauntlet.sandbox.fork_server import LOGGER, Child, ForkServer
from gauntlet.sandbox.protocol import Array, Message

Ask = Callable[..., tuple[Message, Tensor]]

READING = 15.0  # seconds to read and convert a model file
PICTURES = 30.0  # seconds to decode a set of pictures
OPENING = 60.0  # seconds to verify the gradients of a model and prove its certificate
PACE = 2**22  # bytes of a file for each further second
ANSWERING = 60.0  # seconds to answer one batch
FLOAT64 = 8  # bytes of a float64 or int64
GARBLED = "it does not keep to the protocol"


def adopt(
    fork_server: ForkServer,
    file: IO[bytes],
    declared: ModelSettings,
    beside: Mapping[str, IO[bytes]] | None = None,
    names: Mapping[str, IO[bytes]] | None = None,
    *,
    graph: IO[bytes],
) -> ClassifierManifest:
    """Convert an uploaded file, in a child of its own, into the empty file ``graph``, and return the manifest.

    All files must have a file descriptor: the child inherits it, so that they are never whole in the memory of this
    process. The content of ``graph`` is untrusted: compare it with the sha256 in the manifest.

    Args:
        fork_server: starts the child.
        file: the model.
        declared: the settings that the user declared.
        beside: further files by name, in which the model may store its weights.
        names: by name, the file that the user declared for the class names, if any.
        graph: receives the converted graph.

    Raises:
        InvalidInput: the file is refused.
        ModelFailed: the child gave no valid answer.
    """
    more, named = dict(beside or {}), dict(names or {})
    given = [file, *more.values(), *named.values()]
    child = fork_server.child("files", [*given, graph])
    try:
        settings = declared.model_dump(mode="json")
        request = {"ask": "adopt", "declared": settings, "beside": list(more), "names": list(named)}
        seconds = READING + sum(map(_size, given)) / PACE
        message, _ = _request(child, request, seconds=seconds)
        return ClassifierManifest.model_validate_json(message["manifest"])
    except (KeyError, ValidationError) as error:
        raise ModelFailed(GARBLED) from error
    finally:
        child.close()


def read_pictures(fork_server: ForkServer, file: IO[bytes], declared: ImageSetSettings) -> Pictures:
    """Run ``labelled_images.read`` in a child of its own. Raises InvalidInput or ModelFailed."""
    child = fork_server.child("files", [file])
    try:
        request = {"ask": "pictures", "declared": declared.model_dump(mode="json")}
        most = labelled_images.MAX_BYTES + FLOAT64 * labelled_images.MAX_IMAGES  # pixels and labels
        message, (images, labels) = _request(child, request, seconds=PICTURES, most=most)
        classes = tuple(map(str, message["classes"]))
        fits = images.ndim == 4 and images.dtype == np.uint8 and labels.dtype == np.int64
        if not fits or labels.shape != images.shape[:1] or not 0 <= labels.min() <= labels.max() < len(classes):
            raise ModelFailed(GARBLED)
        return Pictures(images, labels, classes)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFailed(GARBLED) from error
    finally:
        child.close()


def open_sandboxed(
    fork_server: ForkServer, graph: IO[bytes], manifest: ClassifierManifest, *, new: bool = False
) -> "SandboxedClassifier":
    """Open a converted graph, in a file that is open for reading, in a child of its own.

    The gradients of a ``new`` model are verified, and the result is in the manifest of the returned classifier. Any
    other model must match its manifest. Raises InvalidInput or ModelFailed.
    """
    child = fork_server.child("models", [graph])
    try:
        request = {"ask": "open", "manifest": manifest.model_dump_json(), "new": new}
        seconds, count = OPENING + _size(graph) / PACE, len(manifest.classes)
        message, arrays = _request(child, request, seconds=seconds, most=FLOAT64 * count**2)
        settled = ClassifierManifest.model_validate_json(message["manifest"])
        return SandboxedClassifier(settled, child, _certificate(message, arrays, count), message["slope"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        child.close()
        raise ModelFailed(GARBLED) from error
    except (InvalidInput, ModelFailed):
        child.close()
        raise


def _size(file: IO[bytes]) -> int:
    """Bytes."""
    return os.fstat(file.fileno()).st_size


def _certificate(message: Message, arrays: list[Array], classes: int) -> Certificate:
    lipschitz = message["lipschitz"]
    if lipschitz is None:
        return Certificate(None, None, str(message["reason"]), float(message["rounding"]))
    (pairwise,) = arrays
    if pairwise.shape != (classes, classes):
        raise ValueError(GARBLED)
    return Certificate(
        float(lipschitz), pairwise.astype(np.float64), str(message["reason"]), float(message["rounding"])
    )


def _request(
    child: Child,
    message: Message,
    *arrays: Array,
    seconds: float,
    most: int = 0,
    check_cancelled: Callable[[], None] | None = None,
) -> tuple[Message, list[Array]]:
    """Send a request and return the answer. Raises InvalidInput or ModelFailed if the child answers with an error."""
    reply, made = child.ask(message, *arrays, seconds=seconds, most=most, check_cancelled=check_cancelled)
    if "refused" in reply:
        raise InvalidInput(str(reply["refused"]), reply.get("field"))
    if "where" in reply:
        LOGGER.warning(
            "an unforeseen exception in a sandboxed process: %s", escaped(f"{reply['failed']}; {reply['where']}")
        )
    if "failed" in reply:
        raise ModelFailed(str(reply["failed"]))
    return reply, made


class SandboxedClassifier:
    """An uploaded classifier in a child process, on the CPU. Calls raise ModelFailed after the child has ended."""

    def __init__(
        self, manifest: ClassifierManifest, child: Child, certificate: Certificate, slope: float | None
    ) -> None:
        self.name, self.manifest, self.certificate = manifest.name, manifest, certificate
        self.device = torch.device("cpu")
        self.slope = slope  # the largest measured when it was new, to check the proved constant; None: not measured
        self._child = child
        self.twin: nn.Module = _Twin(self.ask, torch.float32) if manifest.differentiable else Opaque(self.predict)

    @property
    def alive(self) -> bool:
        return self._child.alive

    def close(self) -> None:
        self._child.close()

    def predict(self, x: Tensor) -> Tensor:
        """Classify images (B, C, H, W) in [0, 1]: logits (B, K)."""
        images = torch.split(x.detach().cpu().float(), at_once(self.manifest.input_shape))
        parts = [self.ask({"ask": "predict"}, part)[1] for part in images]
        return torch.cat(parts)

    def ask(self, message: Message, x: Tensor, *more: Tensor) -> tuple[Message, Tensor]:
        """Send a request whose answer is one tensor: logits (B, K), or with ``more`` a gradient of the shape of x."""
        wanted = tuple(x.shape) if more else (len(x), len(self.manifest.classes))
        most = math.prod(wanted) * x.element_size()
        reply, made = self.request(message, x, *more, seconds=ANSWERING, most=most)
        if len(made) != 1 or made[0].shape != wanted or torch.from_numpy(made[0]).dtype != x.dtype:
            raise self.garbled()
        return reply, torch.from_numpy(made[0].copy())

    def garbled(self) -> ModelFailed:
        """End the child, and return the error for an invalid answer."""
        self.close()
        return ModelFailed(f"{self.name}: {GARBLED}")

    @functools.cached_property
    def bounder(self) -> Bounder:
        """The interface to the bounds that the child computes. Raises Unboundable."""
        reason = self.request({"ask": "boundable"}, seconds=OPENING)[0].get("reason")
        if reason is not None:
            raise Unboundable(str(reason))
        return _Bounder(self)

    def request(
        self,
        message: Message,
        *tensors: Tensor,
        seconds: float,
        most: int = 0,
        check_cancelled: Callable[[], None] | None = None,
    ) -> tuple[Message, list[Array]]:
        """Send a request to the child and return its answer, not validated; see ``Child.ask`` for the parameters."""
        arrays = [tensor.detach().cpu().contiguous().numpy() for tensor in tensors]
        try:
            return _request(self._child, message, *arrays, seconds=seconds, most=most, check_cancelled=check_cancelled)
        except ModelFailed as error:
            raise ModelFailed(f"{self.name}: {error}") from error


class _Bounder:
    """The bounds of the child's graph, computed in the child."""

    def __init__(self, model: SandboxedClassifier) -> None:
        self._model = model

    def intervals(self, x: Tensor, labels: Tensor, eps: Tensor, slack: Tensor) -> Tensor:
        found = []
        for rows in torch.split(torch.arange(len(x)), at_once(self._model.manifest.input_shape)):
            part = [tensor[rows] for tensor in (x, labels, eps, slack)]
            most = FLOAT64 * len(rows)
            _, made = self._model.request({"ask": "intervals"}, *part, seconds=ANSWERING, most=most)
            found.append(self._margins(made, len(rows)))
        return torch.cat(found)

    def prove(
        self,
        x: Tensor,
        label: int,
        norm: Norm,
        eps: float,
        slack: float,
        methods: Sequence[Method],
        seconds: float,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> Proof:
        request: Message = {"ask": "prove", "label": label, "norm": norm, "eps": eps, "slack": slack}
        request |= {"methods": list(methods), "until": seconds}
        longest = ANSWERING + max(0.0, seconds)
        count = len(self._model.manifest.classes) - 1
        reply, made = self._model.request(
            request, x, seconds=longest, most=FLOAT64 * count, check_cancelled=check_cancelled
        )
        margins = self._margins(made, count)
        try:
            if reply["method"] not in METHODS:
                raise self._model.garbled()
            return Proof(margins, reply["method"], int(reply["branches"]), bool(reply["complete"]))
        except (KeyError, TypeError, ValueError) as error:
            raise self._model.garbled() from error

    def _margins(self, made: list[Array], count: int) -> Tensor:
        if len(made) != 1 or made[0].shape != (count,) or made[0].dtype != np.float64:
            raise self._model.garbled()
        return torch.from_numpy(made[0].copy())


class _Twin(nn.Module):
    """A module that computes logits and their gradients with the twin in the child."""

    def __init__(self, ask: Ask, dtype: torch.dtype) -> None:
        super().__init__()
        self._ask, self._dtype = ask, dtype

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self._dtype)
        if torch.is_grad_enabled() and x.requires_grad:
            made: Tensor = _Pass.apply(x, self._ask)
            return made
        return self._ask({"ask": "forward", "gradient": False}, x)[1]

    def double(self) -> Self:
        """Return the same module in float64; this one is not changed."""
        return type(self)(self._ask, torch.float64)

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self


class _Pass(torch.autograd.Function):
    """A forward pass in the child, which keeps its autograd graph until the next pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ask: Ask) -> Tensor:
        reply, logits = ask({"ask": "forward", "gradient": True}, x)
        ctx.ask, ctx.number = ask, reply.get("pass")
        ctx.save_for_backward(x)
        return logits

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return ctx.ask({"ask": "backward", "pass": ctx.number}, x, gradients[0].contiguous())[1], None
