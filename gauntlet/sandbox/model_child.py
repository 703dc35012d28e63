"""The child process that runs one uploaded model: it opens it once, and computes logits, gradients and bounds."""

import os
import socket
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from gauntlet.artifacts.manifest import ClassifierManifest
from gauntlet.bounds.builder import Unboundable
from gauntlet.evaluation.local_slopes import local_slopes
from gauntlet.onnx_import.imported_artefact import open_saved, save
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.runtime import twin
from gauntlet.runtime.classifier import Classifier, use_threads
from gauntlet.sandbox import protocol
from gauntlet.sandbox.child_loop import Answer, serve
from gauntlet.sandbox.protocol import Array, Message

PROBED = 4  # noise images at which the largest slope is measured


def run(line: socket.socket, threads: int, files: list[int]) -> None:
    """Answer requests until the parent closes the socket; the last of the ``files`` is the graph."""
    use_threads(threads)
    host = _Host(line, files)
    answers = {
        "open": host.open,
        "predict": host.predict,
        "forward": host.forward,
        "backward": host.backward,
        "boundable": host.boundable,
        "intervals": host.intervals,
        "prove": host.prove,
    }
    serve(line, answers)


class _Host:
    """The model, and the last forward pass with its autograd graph."""

    def __init__(self, line: socket.socket, files: list[int]) -> None:
        self._line, self._files = line, files
        self._model: Classifier | None = None
        self._doubled: nn.Module | None = None
        self._last: tuple[int, Tensor, Tensor] | None = None
        self._passes = 0

    @property
    def model(self) -> Classifier:
        assert self._model is not None
        return self._model

    def open(self, message: Message, _: list[Array]) -> Answer:
        """Open the model. A new one may turn out to have no usable gradients; any other must match its manifest."""
        manifest = ClassifierManifest.model_validate_json(message["manifest"])
        with tempfile.TemporaryDirectory() as root:
            with os.fdopen(self._files.pop(), "rb") as graph:
                folder = save(Path(root), graph, manifest.name)
            self._model = model = open_saved(folder, manifest, new=message["new"], device="cpu")
        proved = model.certificate
        slope = None
        if message["new"] and proved.lipschitz is not None:  # the proved constant is checked against this slope
            x = KeyedRandom.span(0, 0, PROBED).uniform(0, manifest.input_shape)
            slope = max(local_slopes(model, x, 0))
        reply = {
            "manifest": model.manifest.model_dump_json(),
            "lipschitz": proved.lipschitz,
            "reason": proved.reason,
            "rounding": proved.rounding,
            "slope": slope,
        }
        return reply, [] if proved.pairwise is None else [proved.pairwise]

    def predict(self, _: Message, arrays: list[Array]) -> Answer:
        return {}, [self.model.predict(torch.from_numpy(arrays[0])).numpy()]

    def forward(self, message: Message, arrays: list[Array]) -> Answer:
        """Compute logits with the twin; with ``gradient`` the pass is kept for ``backward``."""
        x = torch.from_numpy(arrays[0].copy())
        if not message["gradient"]:
            with torch.no_grad():
                return {}, [self._twin(x)(x).numpy()]
        self._passes += 1
        self._keep(self._passes, x)
        assert self._last is not None
        return {"pass": self._passes}, [self._last[2].detach().numpy()]

    def backward(self, message: Message, arrays: list[Array]) -> Answer:
        """Compute the vector-Jacobian product of ``arrays[1]`` and the logits at x = ``arrays[0]``.

        If the pass is not the last one, it is computed again.
        """
        if self._last is None or self._last[0] != message["pass"]:
            self._keep(message["pass"], torch.from_numpy(arrays[0].copy()))
        assert self._last is not None
        _, x, logits = self._last
        (gradient,) = torch.autograd.grad(logits, x, torch.from_numpy(arrays[1].copy()), retain_graph=True)
        return {}, [gradient.numpy()]

    def boundable(self, _: Message, __: list[Array]) -> Answer:
        """Return why the model has no bounds; None if it has."""
        try:
            self.model.bounder  # noqa: B018  reads the graph
        except Unboundable as error:
            return {"reason": str(error)}, []
        return {"reason": None}, []

    def intervals(self, _: Message, arrays: list[Array]) -> Answer:
        return {}, [self.model.bounder.intervals(*map(torch.from_numpy, arrays)).numpy()]

    def prove(self, message: Message, arrays: list[Array]) -> Answer:
        arguments = {name: message[name] for name in ("label", "norm", "eps", "slack", "methods")}
        limits = {"seconds": message["until"], "check_cancelled": lambda: protocol.check_cancelled(self._line)}
        proof = self.model.bounder.prove(torch.from_numpy(arrays[0]), **arguments, **limits)
        outcome = {"method": proof.method, "branches": proof.branches, "complete": proof.complete}
        return outcome, [proof.margins.numpy()]

    def _keep(self, number: int, x: Tensor) -> None:
        x.requires_grad_()
        self._last = number, x, self._twin(x)(x)

    def _twin(self, x: Tensor) -> nn.Module:
        if x.dtype != torch.float64:
            return self.model.twin
        if self._doubled is None:
            self._doubled = twin.doubled(self.model.twin)
        return self._doubled
