"""A child's work: one model of somebody's, opened once and asked for logits and gradients."""

import socket

import torch
from torch import Tensor, nn

from gauntlet import runtime
from gauntlet.adopted import open_known, open_new
from gauntlet.manifest import ClassifierManifest
from gauntlet.randomness import Keyed
from gauntlet.report.measure import local_slopes
from gauntlet.runtime import Classifier, use_threads
from gauntlet.sandbox.life import Answer, serve
from gauntlet.sandbox.wire import Array, Message

PROBED = 4  # noise images at which the steepest slope is looked for


def live(line: socket.socket, threads: int) -> None:
    use_threads(threads)
    host = _Host()
    serve(line, {"open": host.open, "predict": host.predict, "forward": host.forward, "backward": host.backward})


class _Host:
    """The model, and the last forward pass with its graph."""

    def __init__(self) -> None:
        self._model: Classifier | None = None
        self._doubled: nn.Module | None = None
        self._last: tuple[int, Tensor, Tensor] | None = None
        self._passes = 0

    @property
    def model(self) -> Classifier:
        assert self._model is not None
        return self._model

    def open(self, message: Message, arrays: list[Array]) -> Answer:
        """Make it runnable. A new one without usable gradients is opened without; a known one must be as it was."""
        manifest = ClassifierManifest.model_validate_json(message["manifest"])
        opened = open_new if message["new"] else open_known
        self._model = model = opened(arrays[0].tobytes(), manifest, "cpu")
        proved = model.certificate
        x = Keyed.span(0, 0, PROBED).uniform(0, manifest.input_shape)
        found = {
            "manifest": model.manifest.model_dump_json(),
            "lipschitz": proved.lipschitz,
            "reason": proved.reason,
            "rounding": proved.rounding,
            "slope": max(local_slopes(model, x, 0)) if message["new"] else None,
        }
        return found, [] if proved.pairwise is None else [proved.pairwise.numpy()]

    def predict(self, _: Message, arrays: list[Array]) -> Answer:
        return {}, [self.model.predict(torch.from_numpy(arrays[0])).numpy()]

    def forward(self, message: Message, arrays: list[Array]) -> Answer:
        """Logits of the twin; with ``gradient`` the pass is kept for ``backward``."""
        x = torch.from_numpy(arrays[0].copy())
        if not message["gradient"]:
            with torch.no_grad():
                return {}, [self._twin(x)(x).numpy()]
        self._passes += 1
        self._keep(self._passes, x)
        assert self._last is not None
        return {"pass": self._passes}, [self._last[2].detach().numpy()]

    def backward(self, message: Message, arrays: list[Array]) -> Answer:
        """The gradient at x of the logits times ``arrays[1]``; an older pass is done again."""
        if self._last is None or self._last[0] != message["pass"]:
            self._keep(message["pass"], torch.from_numpy(arrays[0].copy()))
        assert self._last is not None
        _, x, logits = self._last
        (gradient,) = torch.autograd.grad(logits, x, torch.from_numpy(arrays[1].copy()), retain_graph=True)
        return {}, [gradient.numpy()]

    def _keep(self, number: int, x: Tensor) -> None:
        x.requires_grad_()
        self._last = number, x, self._twin(x)(x)

    def _twin(self, x: Tensor) -> nn.Module:
        if x.dtype != torch.float64:
            return self.model.twin
        if self._doubled is None:
            self._doubled = runtime.doubled(self.model.twin)
        return self._doubled
