"""The interface through which a classifier offers bounds of its logits, in this process or in a child process."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from gauntlet.bounds.interval import interval_excess
from gauntlet.bounds.network import Network
from gauntlet.bounds.output_property import Goal
from gauntlet.bounds.prover import Method, Proof, exclude
from gauntlet.bounds.region import Region
from gauntlet.norms import Norm


class Bounder(Protocol):
    """Lower bounds of the margin: by how much the logit of an image's class exceeds every other logit.

    ``slack`` is subtracted from the margin: a bound of the rounding error of the difference of two served logits.
    """

    def intervals(self, x: Tensor, labels: Tensor, eps: Tensor, slack: Tensor) -> Tensor:
        """Bound by interval arithmetic, for x (n, C, H, W), labels (n,), Linf eps (n,), slack (n,): (n,) float64."""
        ...

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
        """Bound the margin of one image x (C, H, W) over each other class, by the methods in turn, for ``seconds``.

        ``check_cancelled`` is called repeatedly and ends the proof by raising.
        """
        ...


class GraphBounder:
    """Bounds of a network whose graph was read in this process."""

    def __init__(self, network: Network, classes: int) -> None:
        self.network, self._classes = network, classes

    def intervals(self, x: Tensor, labels: Tensor, eps: Tensor, slack: Tensor) -> Tensor:
        shaped = x.view(len(x), *self.network.input_shape)
        goals = [self._goal(int(label), 0.0) for label in labels]
        rows = torch.stack([goal.rows.squeeze(1) for goal in goals])  # (n, K - 1, *output_shape)
        return interval_excess(self.network, Region.ball(shaped, "linf", eps), rows).amin(1) - slack

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
        region = Region.ball(x.view(1, *self.network.input_shape), norm, eps)
        goal, deadline = self._goal(label, slack), time.perf_counter() + seconds
        return exclude(self.network, region, goal, deadline, methods, check_cancelled=check_cancelled)

    def _goal(self, label: int, slack: float) -> Goal:
        return Goal.other_class(label, self._classes, self.network.output_shape, slack)
