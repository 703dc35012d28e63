"""A classifier whose network lives in a child: to the attacks, the referee and the reports it is one like any other."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from gauntlet.adopt.declared import Declared, DeclaredImages
from gauntlet.adopt.pictures import Pictures
from gauntlet.certify import Certificate
from gauntlet.errors import InvalidInput, ModelFailed
from gauntlet.manifest import ClassifierManifest
from gauntlet.runtime import BATCH, Classifier, Opaque
from gauntlet.sandbox.nursery import Child, Nursery
from gauntlet.sandbox.wire import Array, Message

Ask = Callable[..., tuple[Message, Tensor]]

READING = 5.0  # seconds that a file may take to be read and tried
PICTURES = 30.0  # ... all of a set of pictures to be decoded
OPENING = 60.0  # ... its gradients to be verified and its certificate to be proved
ANSWERING = 60.0  # ... one batch to be answered
GARBLED = "it does not keep to the protocol"


def adopt(nursery: Nursery, data: bytes, declared: Declared) -> tuple[bytes, ClassifierManifest]:
    """``gauntlet.adopt`` in a child of its own: the graph and its manifest. Raises InvalidInput or ModelFailed."""
    child = nursery.child("files")
    try:
        asked = {"ask": "adopt", "declared": declared.model_dump(mode="json")}
        message, arrays = _told(child, asked, np.frombuffer(data, np.uint8), seconds=READING)
        return arrays[0].tobytes(), ClassifierManifest.model_validate_json(message["manifest"])
    except (KeyError, IndexError, ValidationError) as error:
        raise ModelFailed(GARBLED) from error
    finally:
        child.close()


def read_pictures(nursery: Nursery, data: bytes, declared: DeclaredImages) -> Pictures:
    """``gauntlet.adopt.pictures.read`` in a child of its own. Raises InvalidInput or ModelFailed."""
    child = nursery.child("files")
    try:
        asked = {"ask": "pictures", "declared": declared.model_dump(mode="json")}
        message, (images, labels) = _told(child, asked, np.frombuffer(data, np.uint8), seconds=PICTURES)
        classes = tuple(map(str, message["classes"]))
        fits = images.ndim == 4 and images.dtype == np.uint8 and labels.dtype == np.int64
        if not fits or labels.shape != images.shape[:1] or not 0 <= labels.min() <= labels.max() < len(classes):
            raise ModelFailed(GARBLED)
        return Pictures(images, labels, classes)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFailed(GARBLED) from error
    finally:
        child.close()


def open_guest(nursery: Nursery, graph: bytes, manifest: ClassifierManifest, *, new: bool = False) -> "Guest":
    """Make an adopted graph runnable in a child. Raises ModelFailed.

    A ``new`` one is tried: without usable gradients its manifest says so. Any other must be as its manifest says.
    """
    child = nursery.child("models")
    try:
        asked = {"ask": "open", "manifest": manifest.model_dump_json(), "new": new}
        message, arrays = _told(child, asked, np.frombuffer(graph, np.uint8), seconds=OPENING)
        settled = ClassifierManifest.model_validate_json(message["manifest"])
        return Guest(settled, child, _certificate(message, arrays, len(manifest.classes)), message["slope"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        child.close()
        raise ModelFailed(GARBLED) from error
    except (InvalidInput, ModelFailed):
        child.close()
        raise


def _certificate(message: Message, arrays: list[Array], classes: int) -> Certificate:
    lipschitz = message["lipschitz"]
    if lipschitz is None:
        return Certificate(None, None, str(message["reason"]), float(message["rounding"]))
    (pairwise,) = arrays
    if pairwise.shape != (classes, classes):
        raise ValueError(GARBLED)
    proved = torch.from_numpy(pairwise.astype(np.float64))
    return Certificate(float(lipschitz), proved, str(message["reason"]), float(message["rounding"]))


def _told(child: Child, message: Message, *arrays: Array, seconds: float) -> tuple[Message, list[Array]]:
    """An answer that is none of its errors."""
    reply, made = child.ask(message, *arrays, seconds=seconds)
    if "refused" in reply:
        raise InvalidInput(str(reply["refused"]), reply.get("field"))
    if "failed" in reply:
        raise ModelFailed(str(reply["failed"]))
    return reply, made


class Guest(Classifier):
    """Somebody's classifier, on the CPU, in a child. Every call raises ModelFailed once the child is gone."""

    def __init__(
        self, manifest: ClassifierManifest, child: Child, certificate: Certificate, slope: float | None
    ) -> None:
        self.name, self.manifest, self.certificate = manifest.name, manifest, certificate
        self.device = torch.device("cpu")
        self.slope = slope  # the steepest found when it was new: below the proved constant
        self._child = child
        self.twin: nn.Module = _Twin(self.ask, torch.float32) if manifest.differentiable else Opaque(self.predict)

    @property
    def alive(self) -> bool:
        return self._child.alive

    def close(self) -> None:
        self._child.close()

    def predict(self, x: Tensor) -> Tensor:
        """As every classifier's: images (B, C, H, W) in [0, 1] to logits (B, K)."""
        parts = [self.ask({"ask": "predict"}, part)[1] for part in torch.split(x.detach().cpu().float(), BATCH)]
        return torch.cat(parts)

    def ask(self, message: Message, x: Tensor, *more: Tensor) -> tuple[Message, Tensor]:
        """One tensor: logits, or for ``more`` a gradient of the shape of x, which must be finite."""
        arrays = [tensor.detach().cpu().contiguous().numpy() for tensor in (x, *more)]
        try:
            reply, made = _told(self._child, message, *arrays, seconds=ANSWERING)
        except ModelFailed as error:
            raise ModelFailed(f"{self.name}: {error}") from error
        wanted = tuple(x.shape) if more else (len(x), len(self.manifest.classes))
        if len(made) != 1 or made[0].shape != wanted or made[0].dtype != arrays[0].dtype:
            self.close()
            raise ModelFailed(f"{self.name}: {GARBLED}")
        answer = torch.from_numpy(made[0].copy())
        if not more and not bool(answer.isfinite().all()):
            raise ModelFailed(f"{self.name}: it answers with NaN or infinite numbers")
        return reply, answer


class _Twin(nn.Module):
    """Logits with gradients, both from the twin in the child."""

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
        """The same in float64; this one stays what it is."""
        return type(self)(self._ask, torch.float64)

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self


class _Pass(torch.autograd.Function):
    """A forward pass in the child, which keeps its graph until the next one."""

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
