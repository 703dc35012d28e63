"""Certified Linf radii of predictions, by interval arithmetic in ONNX Runtime: numpy in, numpy out, without torch."""

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

ROUNDS = 4  # distances that are tried for each image; each costs as much as 2.5 to 3.5 passes of the network
BATCH = 32  # largest number of images in one pass: so the tensors between the layers stay in the processor's cache
GROWTH = 1.5  # factor from a proved distance to the next one, until a distance fails
INNER = 0.1, 0.9  # limits of the next distance's position between a proved (0) and a failed (1) distance


class IntervalRadii:
    """Interval bounds of a network that was trained for them; those of other networks are too loose to be useful."""

    def __init__(self, path: Path, eps: float) -> None:
        """Build the graph; ``eps`` is the distance that is tried first. Raises Unprovable if a node has no rule."""
        graph = interval_graph(onnx_file.read(path))
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._input, self._eps = self._session.get_inputs()[0].name, eps

    def margins(self, x: Floats, labels: NDArray[np.int64], eps: Floats) -> Doubles:
        """Return lower bounds (n,) of the margin of the label's logit, within Linf eps (n,) of x (n, C, H, W)."""
        parts = THREAD_POOL.parts(len(x), LEAST, BATCH)

        def worst(part: slice) -> Floats:
            inputs = {self._input: x[part], EPS: eps[part].reshape(-1, 1, 1, 1), LABEL: labels[part]}
            answer: Floats = np.asarray(self._session.run(None, inputs)[0])
            return answer

        excess = np.concatenate(THREAD_POOL.map(worst, parts)).astype(np.float64)
        excess[np.arange(len(x)), labels] = -np.inf
        return -excess.max(axis=1)

    def radii(self, x: Floats, logits: Floats, slack: Doubles) -> Doubles:
        """Return Linf radii (n,) within which the margin of the predicted class is proved to exceed ``slack`` (n,).

        ``x`` (n, C, H, W) are the images and ``logits`` (n, K) those that were served. The radius is zero where nothing
        was proved.
        """
        answered: NDArray[np.bool_] = np.asarray(np.isfinite(logits).all(axis=1))
        z, slack = np.where(answered[:, None], logits, 0).astype(np.float64), np.where(answered, slack, 0)
        labels = z.argmax(axis=1)
        second, first = np.partition(z, -2, axis=1)[:, -2:].T
        low, ahead = np.zeros(len(x)), first - second - slack  # the largest distance proved, and the margin there
        high, behind = np.full(len(x), np.inf), np.zeros(len(x))  # the smallest distance that failed, and its margin
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
    """Return the interval bounds of an ONNX file, or None if a node of its graph has no rule."""
    try:
        return IntervalRadii(path, eps)
    except Unprovable:
        return None
