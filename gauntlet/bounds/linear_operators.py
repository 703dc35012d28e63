"""Linear operators on one sample: y = W x + b, the transpose W^T a, and |W| x.

Arrays have a leading dimension N over which the operator is vectorised; the other dimensions are the shape of one
sample, which starts with 1 if the graph has a batch dimension. ``transpose`` returns a tuple with one array per input.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from typing import Any, Self

import torch
from torch import Tensor, nn

CONVOLUTIONS = {1: nn.functional.conv1d, 2: nn.functional.conv2d, 3: nn.functional.conv3d}
TRANSPOSED = {1: nn.functional.conv_transpose1d, 2: nn.functional.conv_transpose2d, 3: nn.functional.conv_transpose3d}
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Linear(ABC):
    """Base class of linear operators: ``bias`` has the shape of y, or is None."""

    bias: Tensor | None = field(default=None, kw_only=True)

    @abstractmethod
    def apply(self, *x: Tensor) -> Tensor:
        """Return W x, without the bias."""

    @abstractmethod
    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        """Return W^T a for each input."""

    def magnitude(self, *x: Tensor) -> Tensor:
        """Return |W| x. Operators with negative weights override this."""
        return self.apply(*x)

    @property
    def terms(self) -> int:
        """Largest number of terms that are summed for one output."""
        return 1

    @property
    def work(self) -> int:
        """Number of multiplications for one sample; cheap operators count as zero."""
        return 0

    @property
    def elementwise(self) -> bool:
        """Whether each output depends on one value of each input, and no two outputs on the same value."""
        return False

    def to(self, dtype: torch.dtype) -> Self:
        """Return the same operator with its floating-point tensors converted to ``dtype``."""
        changed: dict[str, Any] = {}
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, Tensor) and value.is_floating_point():
                changed[part.name] = value.to(dtype)
            elif isinstance(value, tuple) and value and all(isinstance(v, Tensor) for v in value):
                changed[part.name] = tuple(v.to(dtype) for v in value)
        return replace(self, **changed)


@dataclass(frozen=True)
class Combination(Linear):
    """y = sum of c_i * x_i, elementwise, with one coefficient (shape of a sample, or scalar) for each input."""

    coefficients: tuple[Tensor, ...]

    def apply(self, *x: Tensor) -> Tensor:
        return reduce(torch.add, (c * part for c, part in zip(self.coefficients, x, strict=True)))

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        return tuple(c * a for c in self.coefficients)

    def magnitude(self, *x: Tensor) -> Tensor:
        return reduce(torch.add, (c.abs() * part for c, part in zip(self.coefficients, x, strict=True)))

    @property
    def terms(self) -> int:
        return len(self.coefficients)

    @property
    def elementwise(self) -> bool:
        return len(self.coefficients) == 1


@dataclass(frozen=True)
class Dense(Linear):
    """y = x W^T along the last dimension: (..., in) to (..., out)."""

    weight: Tensor  # (out, in)
    rows: int  # vectors in one sample: the product of its other dimensions

    def apply(self, *x: Tensor) -> Tensor:
        return x[0] @ self.weight.T

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        return (a @ self.weight,)

    def magnitude(self, *x: Tensor) -> Tensor:
        return x[0] @ self.weight.abs().T

    @property
    def terms(self) -> int:
        return self.weight.shape[1]

    @property
    def work(self) -> int:
        return self.weight.numel() * self.rows


@dataclass(frozen=True)
class Convolution(Linear):
    """A convolution of (1, C, *size), with zero padding ``before`` and ``after`` each spatial dimension."""

    weight: Tensor  # (out, in / groups, *kernel)
    size: Shape  # spatial, of the input
    stride: Shape
    before: Shape
    after: Shape
    dilation: Shape
    groups: int

    def apply(self, *x: Tensor) -> Tensor:
        return self._convolve(x[0], self.weight)

    def magnitude(self, *x: Tensor) -> Tensor:
        return self._convolve(x[0], self.weight.abs())

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        flat, padding = x.flatten(0, 1), self.before
        if self.before != self.after:
            flat, padding = nn.functional.pad(flat, pads(self.before, self.after)), (0,) * len(self.size)
        function = CONVOLUTIONS[len(self.size)]
        y = function(flat, weight, None, self.stride, padding, self.dilation, self.groups)
        return y.reshape(*x.shape[:2], *y.shape[1:])

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        function = TRANSPOSED[len(self.size)]
        full = function(a.flatten(0, 1), self.weight, None, self.stride, 0, 0, self.groups, self.dilation)
        crop = [-b for b in self.before]  # negative padding crops
        rest = [n + b - m for n, b, m in zip(self.size, self.before, full.shape[2:], strict=True)]
        cropped = nn.functional.pad(full, pads(crop, rest))
        return (cropped.reshape(*a.shape[:2], *cropped.shape[1:]),)

    @property
    def terms(self) -> int:
        return math.prod(self.weight.shape[1:])

    @property
    def work(self) -> int:
        return self.weight.numel() * math.prod(n // s + 1 for n, s in zip(self.size, self.stride, strict=True))


def pads(before: Any, after: Any) -> list[int]:
    """Return the padding in the order of torch.nn.functional.pad: the last dimension first."""
    return [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]


@dataclass(frozen=True)
class Total(Linear):
    """Sums over some dimensions of a sample; these are kept with size one."""

    dims: Shape  # of the sample
    shape: Shape  # of the input

    def apply(self, *x: Tensor) -> Tensor:
        return x[0].sum([d + 1 for d in self.dims], keepdim=True)

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        return (a.expand(len(a), *self.shape),)

    @property
    def terms(self) -> int:
        return math.prod(self.shape[d] for d in self.dims)


@dataclass(frozen=True)
class Selection(Linear):
    """Values moved, copied or left out: y[i] = x[index[i]], where x is all inputs flattened and concatenated.

    An index equal to ``total`` (the number of values of all inputs) stands for zero: padding, or a constant, which the
    bias adds.
    """

    index: Tensor  # (values of y,) int64
    shapes: tuple[Shape, ...]  # of the inputs
    shape: Shape  # of y
    total: int
    inverse: Tensor | None  # (total,) position of each value in y, len(index): left out; None: some values are copied
    ordered: bool  # there is one input, and all its values stay in their order

    def apply(self, *x: Tensor) -> Tensor:
        if self.ordered:
            return x[0].reshape(len(x[0]), *self.shape)
        flat = [part.flatten(1) for part in x]
        padded = torch.cat([*flat, flat[0].new_zeros(len(x[0]), 1)], 1)
        return padded[:, self.index].reshape(len(x[0]), *self.shape)

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        if self.ordered:
            return (a.reshape(len(a), *self.shapes[0]),)
        flat = a.flatten(1)
        if self.inverse is not None:
            back = torch.cat([flat, flat.new_zeros(len(a), 1)], 1)[:, self.inverse]
        else:
            back = flat.new_zeros(len(a), self.total + 1).index_add(1, self.index, flat)[:, : self.total]
        parts = torch.split(back, [math.prod(shape) for shape in self.shapes], 1)
        return tuple(part.reshape(len(a), *shape) for part, shape in zip(parts, self.shapes, strict=True))

    @property
    def elementwise(self) -> bool:
        return self.inverse is not None


def selection(index: Tensor, shapes: tuple[Shape, ...], shape: Shape, bias: Tensor | None = None) -> Selection:
    """Return a Selection; compute ``total``, ``inverse`` and ``ordered`` from the index."""
    total = sum(math.prod(s) for s in shapes)
    moved = (index < total).nonzero().squeeze(1)
    inverse = torch.full((total,), len(index))
    inverse[index[moved]] = moved
    once = int((inverse < len(index)).sum()) == len(moved)
    ordered = len(shapes) == 1 and torch.equal(index, torch.arange(total))
    return Selection(index, shapes, shape, total, inverse if once else None, ordered, bias=bias)
