"""The network that the bounds are computed of: steps in topological order, each linear, a ReLU or a sigmoid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from gauntlet.bounds.linear_operators import Linear, Shape
from gauntlet.bounds.nonlinear import Nonlinear


class Monotone(NamedTuple):
    """A step's value as a non-decreasing function of earlier steps, which interval arithmetic uses instead."""

    function: Callable[..., Tensor]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """A named tensor: an operator applied to earlier steps. ``shape`` is that of one sample."""

    name: str
    operator: Linear | Nonlinear
    inputs: tuple[str, ...]
    shape: Shape
    monotone: Monotone | None = None


@dataclass(frozen=True)
class Network:
    """Steps in topological order from ``input`` to ``output``; every one is needed for the output."""

    input: str
    input_shape: Shape  # of one sample
    steps: tuple[Step, ...]
    output: str

    @cached_property
    def step(self) -> Mapping[str, Step]:
        return {step.name: step for step in self.steps}

    @property
    def output_shape(self) -> Shape:
        return self.step[self.output].shape

    @property
    def dtype(self) -> torch.dtype:
        return next(
            (tensor.dtype for step in self.steps for tensor in vars(step.operator).values() if _is_real(tensor)),
            torch.float64,
        )

    @cached_property
    def activations(self) -> tuple[Step, ...]:
        """The steps that are not linear."""
        return tuple(step for step in self.steps if isinstance(step.operator, Nonlinear))

    @cached_property
    def intervals(self) -> frozenset[str]:
        """The steps whose intervals the output's interval needs; the others are used only by linear bounds."""
        needed = {self.output}
        for step in reversed(self.steps):
            if step.name in needed:
                needed.update(step.monotone.inputs if step.monotone else step.inputs)
        return frozenset(needed)

    @cached_property
    def ancestors(self) -> Mapping[str, frozenset[str]]:
        """The steps that each step depends on, directly or not."""
        found: dict[str, frozenset[str]] = {self.input: frozenset()}
        for step in self.steps:
            found[step.name] = frozenset().union(*(found[name] | {name} for name in step.inputs)) - {self.input}
        del found[self.input]
        return found

    @cached_property
    def work(self) -> Mapping[str, int]:
        """Multiplications of each step and its ancestors; a backward pass for one of its values takes as many."""
        own = {s.name: s.operator.work if isinstance(s.operator, Linear) else 0 for s in self.steps}
        return {name: own[name] + sum(own[part] for part in parts) for name, parts in self.ancestors.items()}

    @cached_property
    def exact(self) -> frozenset[str]:
        """The steps whose interval over a box is exact: linear, and at most one operator up to them mixes values."""
        mixed: dict[str, bool] = {self.input: False}
        for step in self.steps:
            if isinstance(step.operator, Linear) and len(step.inputs) == 1 and step.inputs[0] in mixed:
                if step.operator.elementwise:
                    mixed[step.name] = mixed[step.inputs[0]]
                elif not mixed[step.inputs[0]]:
                    mixed[step.name] = True
        return frozenset(mixed)

    @cached_property
    def longest(self) -> int:
        """Largest number of terms of any sum, in the network or in a bound of it."""
        sizes = [torch.Size(step.shape).numel() for step in self.steps] + [torch.Size(self.input_shape).numel()]
        terms = [step.operator.terms for step in self.steps if isinstance(step.operator, Linear)]
        return max(*sizes, *terms)

    @cached_property
    def single(self) -> "Network":
        """The network in float32: for searches, not for proofs."""
        steps = tuple(
            Step(s.name, s.operator.to(torch.float32), s.inputs, s.shape, s.monotone)
            if isinstance(s.operator, Linear)
            else s
            for s in self.steps
        )
        return Network(self.input, self.input_shape, steps, self.output)

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the outputs (N, *output_shape) of inputs (N, *input_shape)."""
        return self.values(x)[self.output]

    def values(self, x: Tensor) -> dict[str, Tensor]:
        """Compute every step's value at inputs (N, *input_shape)."""
        values = {self.input: x}
        for step in self.steps:
            given = [values[name] for name in step.inputs]
            if isinstance(step.operator, Linear):
                y = step.operator.apply(*given)
                values[step.name] = y if step.operator.bias is None else y + step.operator.bias
            else:
                values[step.name] = step.operator.apply(given[0])
        return values


def _is_real(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
