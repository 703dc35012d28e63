"""Linf radii by interval arithmetic, beside predictions: numpy in, numpy out, without torch."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from gauntlet.artifacts import onnx_file
from gauntlet.certify.graph_walk import Unprovable
from gauntlet.certify.interval_onnx_graph import EPS, LABEL, interval_graph
from gauntlet.runtime.session import LEAST, THREAD_POOL

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

ROUNDS = 4  # distances that are tried for each image, at 2.5 to 3.5 passes of the network each
MOST = 32  # images at once: what is between the layers stays in the processor's cache
GROWTH = 1.5  # from a distance that is proved to the next, while none has failed
INNER = 0.1, 0.9  # where between a proved and a failed distance the next one lies, at least and at most


class IntervalRadii:
    """Of one network that was trained for it: others have radii too small to be of use."""

    def __init__(self, path: Path, eps: float) -> None:
        """``eps``: the distance that is tried first. Raises Unprovable where the graph has a node without a rule."""
        graph = interval_graph(onnx_file.read(path))
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._input, self._eps = self._session.get_inputs()[0].name, eps

    def margins(self, x: Floats, labels: NDArray[np.int64], eps: Floats) -> Doubles:
        """Lower bounds (n,) of how far the label's logit stays ahead, within Linf eps (n,) of x (n, C, H, W)."""
        parts = THREAD_POOL.parts(len(x), LEAST, MOST)

        def worst(part: slice) -> Floats:
            fed = {self._input: x[part], EPS: eps[part].reshape(-1, 1, 1, 1), LABEL: labels[part]}
            answer: Floats = np.asarray(self._session.run(None, fed)[0])
            return answer

        found = np.concatenate(THREAD_POOL.map(worst, parts)).astype(np.float64)
        found[np.arange(len(x)), labels] = -np.inf
        return -found.max(axis=1)

    def radii(self, x: Floats, logits: Floats, slack: Doubles) -> Doubles:
        """Linf radii (n,) within which the class of x (n, C, H, W), of logits (n, K), stays ahead by more than slack.

        Zero where nothing was proved.
        """
        answered: NDArray[np.bool_] = np.asarray(np.isfinite(logits).all(axis=1))
        z, slack = np.where(answered[:, None], logits, 0).astype(np.float64), np.where(answered, slack, 0)
        labels = z.argmax(axis=1)
        second, first = np.partition(z, -2, axis=1)[:, -2:].T
        low, ahead = np.zeros(len(x)), first - second - slack  # the largest distance proved, and the margin there
        high, behind = np.full(len(x), np.inf), np.zeros(len(x))  # the smallest that failed
        eps = np.full(len(x), self._eps, np.float32)
        for _ in range(ROUNDS):
            margin = self.margins(x, labels, eps) - slack
            proved = margin > 0
            low, ahead = np.where(proved, eps, low), np.where(proved, margin, ahead)
            high, behind = np.where(proved, high, eps), np.where(proved, behind, margin)
            share = np.clip(ahead / np.maximum(ahead - behind, 1e-12), *INNER)
            between = low + share * (np.where(np.isfinite(high), high, low) - low)
            eps = np.minimum(np.where(np.isfinite(high), between, GROWTH * low), 1).astype(np.float32)
        return np.where(answered, low, 0.0)


def open_intervals(path: Path, eps: float) -> IntervalRadii | None:
    """None where the graph has a node without a rule: then nothing is proved."""
    try:
        return IntervalRadii(path, eps)
    except Unprovable:
        return None
