"""Nonlinear operators and their linear bounds: lower(x) <= f(x) <= upper(x) for all x in [l, u].

``Nonlinear.lines`` takes a place in [0, 1] per value and per side: the position of the slope between the flattest and
the steepest sound slope. Alpha-CROWN (Xu et al., arXiv 2011.13824) optimises these places.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

BISECTIONS = 30


class Lines(NamedTuple):
    """A lower and an upper line, slope * x + offset each; all tensors have the same shape."""

    lower_slope: Tensor
    lower_offset: Tensor
    upper_slope: Tensor
    upper_offset: Tensor


class Nonlinear(ABC):
    """A non-decreasing function applied to each value separately."""

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor: ...

    def enclose(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Return an interval that contains f(x). A subclass widens it if computing f involves rounding."""
        return self.apply(lower), self.apply(upper)

    @abstractmethod
    def free(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return where the function is not linear over the interval, so that slopes are free and a cut helps."""

    @abstractmethod
    def start(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return the default slopes of the lower and of the upper line, as places (2, ...) in [0, 1]."""

    @abstractmethod
    def lines(self, lower: Tensor, upper: Tensor, place: Tensor) -> Lines:
        """Return the lines whose slopes are at these places (2, ...)."""

    @abstractmethod
    def split(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return the value at which to cut an interval in two."""


class Relu(Nonlinear):
    """CROWN's lines (Zhang et al., arXiv 1811.00866): the chord above, any slope in [0, 1] through zero below."""

    def apply(self, x: Tensor) -> Tensor:
        return x.clamp_min(0)

    def free(self, lower: Tensor, upper: Tensor) -> Tensor:
        return (lower < 0) & (upper > 0)

    def start(self, lower: Tensor, upper: Tensor) -> Tensor:
        return (upper > -lower).to(lower.dtype).expand(2, *lower.shape)

    def lines(self, lower: Tensor, upper: Tensor, place: Tensor) -> Lines:
        free, on = self.free(lower, upper), (lower >= 0).to(lower.dtype)
        chord = upper / torch.where(free, upper - lower, torch.ones_like(upper))
        slope = torch.where(free, chord, on)
        below = torch.where(free, place[0], on)
        return Lines(below, torch.zeros_like(below), slope, torch.where(free, -chord * lower, torch.zeros_like(slope)))

    def split(self, lower: Tensor, upper: Tensor) -> Tensor:
        return torch.zeros_like(lower + upper)


class Sigmoid(Nonlinear):
    """The logistic function. Every slope gives a sound line with the right offset, which has a closed form.

    f(x) - slope * x is extreme at an end of [l, u] or where f' = slope, at logit(p) with p (1 - p) = slope.
    The default upper line has the slope of the chord if that lies above f, of the tangent in the middle where f is
    concave, else of the tangent through the lower end. The lower line is the upper one for f(-x), turned.
    """

    def apply(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def enclose(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        slack = 8 * torch.finfo(lower.dtype).eps
        return self.apply(lower) - slack, self.apply(upper) + slack

    def free(self, lower: Tensor, upper: Tensor) -> Tensor:
        return torch.ones_like(lower + upper, dtype=torch.bool)

    def start(self, lower: Tensor, upper: Tensor) -> Tensor:
        flattest, steepest = _slopes(lower, upper)
        above = _tangent_above(lower, upper)
        below = _tangent_above(-upper, -lower)  # f(-x) = 1 - f(x): the lower line is the upper one, turned
        return ((torch.stack([below, above]) - flattest) / (steepest - flattest).clamp_min(1e-12)).clamp(0, 1)

    def lines(self, lower: Tensor, upper: Tensor, place: Tensor) -> Lines:
        flattest, steepest = _slopes(lower, upper)
        below, above = (flattest + part * (steepest - flattest) for part in place)
        return Lines(below, -_offset_above(-upper, -lower, below) + 1, above, _offset_above(lower, upper, above))

    def split(self, lower: Tensor, upper: Tensor) -> Tensor:
        return (lower + upper) / 2


def _derivative(x: Tensor) -> Tensor:
    value = torch.sigmoid(x)
    return value * (1 - value)


def _slopes(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest derivative over the interval."""
    ends = torch.stack([_derivative(lower), _derivative(upper)])
    across = (lower < 0) & (upper > 0)
    return ends.amin(0), torch.where(across, torch.full_like(lower, 0.25), ends.amax(0))


def _offset_above(lower: Tensor, upper: Tensor, slope: Tensor) -> Tensor:
    """Return the smallest offset with f(x) <= slope * x + offset over the interval."""
    root = (1 - 4 * slope).clamp_min(0).sqrt()
    tiny = torch.finfo(slope.dtype).tiny
    touch = 2 * ((1 + root) / 2).log() - slope.clamp_min(tiny).log()  # where f' = slope, on the right
    inside = torch.minimum(torch.maximum(touch.detach(), lower), upper)
    points = torch.stack([lower.expand_as(slope), upper.expand_as(slope), inside])
    return (torch.sigmoid(points) - slope * points).amax(0)


def _tangent_above(lower: Tensor, upper: Tensor) -> Tensor:
    """Return the slope of the default upper line."""
    value = torch.sigmoid(lower)
    left, right = lower.clamp_min(0), upper.clamp_min(0)
    for _ in range(BISECTIONS):  # the tangent at d >= 0 through the lower end
        middle = (left + right) / 2
        under = _derivative(middle) * (middle - lower) > torch.sigmoid(middle) - value
        left, right = torch.where(under, middle, left), torch.where(under, right, middle)
    width = upper - lower
    chord = (torch.sigmoid(upper) - value) / width.clamp_min(1e-9)
    chord = torch.where(width > 1e-9, chord, _derivative(upper))
    tangent = _derivative(right)
    mixed = torch.where(_derivative(upper) * width > torch.sigmoid(upper) - value, chord, tangent)
    concave = _derivative((lower + upper) / 2)
    return torch.where(lower >= 0, concave, torch.where(upper <= 0, chord, mixed))
