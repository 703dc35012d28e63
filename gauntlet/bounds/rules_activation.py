"""Rules for activations, maxima and pooling, rewritten exactly in ReLUs and sigmoids.

Interval arithmetic over the rewritten steps would be looser than over the operator itself. So each result also carries
the operator as a monotone function, which interval arithmetic uses instead.
"""

import math
from functools import partial, reduce
from typing import Any

import numpy as np
import torch
from onnx import NodeProto
from torch import Tensor

from gauntlet.bounds.builder import Array, Builder, Unboundable, attributes_of, real
from gauntlet.bounds.linear_operators import Shape, pads
from gauntlet.bounds.network import Monotone
from gauntlet.bounds.nonlinear import Relu, Sigmoid
from gauntlet.bounds.rules_linear import convolve, windows
from gauntlet.bounds.rules_movement import expand, pick, places_of


def relu(builder: Builder, node: NodeProto) -> str:
    return _relu(builder, builder.variable(node.input[0]))


def _relu(builder: Builder, step: str) -> str:
    return builder.add(Relu(), [step], builder.shapes[step])


def leaky(builder: Builder, node: NodeProto) -> str:
    """Rewrite LeakyRelu and PRelu as slope * x + (1 - slope) relu(x)."""
    step = builder.variable(node.input[0])
    slope: Array = np.array(attributes_of(node).get("alpha", 0.01), dtype=np.float64)
    if node.op_type == "PRelu":
        slope = builder.constant(node.input[1])
    if not (slope >= 0).all():
        raise Unboundable(f"{node.op_type} with a negative slope")
    factor = real(slope)
    function = partial(_leaky, factor)
    terms: list[tuple[Array | float, str]] = [(slope, step), (1 - slope, _relu(builder, step))]
    return builder.combine(terms, monotone=Monotone(function, (step,)))


def _leaky(slope: Tensor, x: Tensor) -> Tensor:
    return torch.where(x < 0, slope.to(x.dtype) * x, x)


def absolute(builder: Builder, node: NodeProto) -> str:
    """Rewrite |x| as relu(x) + relu(-x)."""
    step = builder.variable(node.input[0])
    return builder.combine([(1.0, _relu(builder, step)), (1.0, _relu(builder, builder.combine([(-1.0, step)])))])


def clip(builder: Builder, node: NodeProto) -> str:
    attributes = attributes_of(node)
    ends = [attributes.get("min", -math.inf), attributes.get("max", math.inf)]
    for place, name in enumerate(node.input[1:3]):
        if name:
            ends[place] = float(builder.constant(name))
    return _clip(builder, builder.variable(node.input[0]), *ends)


def hard_sigmoid(builder: Builder, node: NodeProto) -> str:
    attributes = attributes_of(node)
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    return _clip(builder, builder.combine([(alpha, builder.variable(node.input[0]))], beta), 0.0, 1.0)


def _clip(builder: Builder, step: str, low: float, high: float) -> str:
    """Return a step for low + relu(x - low) - relu(x - high)."""
    if low > high:
        raise Unboundable("Clip with a minimum above its maximum")
    if math.isinf(low) and math.isinf(high):
        return step
    function = partial(torch.clamp, min=low, max=high)
    above = _relu(builder, builder.combine([(1.0, step)], -high)) if math.isfinite(high) else None
    if math.isinf(low):
        assert above is not None
        return builder.combine([(1.0, step), (-1.0, above)], monotone=Monotone(function, (step,)))
    over = _relu(builder, builder.combine([(1.0, step)], -low))
    terms = [(1.0, over)] + ([(-1.0, above)] if above else [])
    return builder.combine(terms, low, Monotone(function, (step,)))


def sigmoid(builder: Builder, node: NodeProto) -> str:
    return _sigmoid(builder, builder.variable(node.input[0]))


def tanh(builder: Builder, node: NodeProto) -> str:
    """Rewrite Tanh as 2 sigmoid(2 x) - 1."""
    return builder.combine([(2.0, _sigmoid(builder, builder.combine([(2.0, builder.variable(node.input[0]))])))], -1.0)


def _sigmoid(builder: Builder, step: str) -> str:
    return builder.add(Sigmoid(), [step], builder.shapes[step])


def pairs(builder: Builder, node: NodeProto) -> str:
    """Rewrite Max and Min, of variables and constants of any shapes that broadcast, pair by pair."""
    largest = node.op_type == "Max"
    variables = [builder.variables[name] for name in node.input if name in builder.variables]
    constants = [builder.constant(name) for name in node.input if name not in builder.variables]
    shape = np.broadcast_shapes(*(builder.shapes[step] for step in variables), *(c.shape for c in constants))
    steps = [expand(builder, step, shape) for step in variables]
    found = reduce(partial(_larger if largest else _smaller, builder), steps)
    for constant in constants:
        found = _extreme_with_constant(builder, found, np.broadcast_to(constant, shape), largest)
    return found


def _larger(builder: Builder, first: str, second: str) -> str:
    """Return a step for max(a, b) = b + relu(a - b)."""
    excess = _relu(builder, builder.combine([(1.0, first), (-1.0, second)]))
    return builder.combine([(1.0, second), (1.0, excess)], monotone=Monotone(torch.maximum, (first, second)))


def _smaller(builder: Builder, first: str, second: str) -> str:
    """Return a step for min(a, b) = a - relu(a - b)."""
    excess = _relu(builder, builder.combine([(1.0, first), (-1.0, second)]))
    return builder.combine([(1.0, first), (-1.0, excess)], monotone=Monotone(torch.minimum, (first, second)))


def _extreme_with_constant(builder: Builder, step: str, constant: Array, largest: bool) -> str:
    """Return a step for max(x, c) = c + relu(x - c), or for min(x, c) = c - relu(c - x)."""
    sign = 1.0 if largest else -1.0
    excess = _relu(builder, builder.combine([(sign, step)], -sign * constant))
    function = partial(_with_constant, torch.maximum if largest else torch.minimum, real(constant))
    return builder.combine([(sign, excess)], constant, Monotone(function, (step,)))


def _with_constant(function: Any, constant: Tensor, x: Tensor) -> Tensor:
    return function(x, constant.to(x.dtype))


def max_pool(builder: Builder, node: NodeProto) -> str:
    """Rewrite MaxPool as the maximum along each spatial dimension in turn, pair by pair.

    Padding never is the maximum: a place in the padding is replaced by one that lies inside the same window.
    """
    attributes = attributes_of(node)
    image = builder.variable(node.input[0])
    kernel, size = tuple(attributes["kernel_shape"]), builder.shapes[image][2:]
    stride, before, after, dilation = windows(attributes, size, kernel)
    step, behind = image, []
    for number, (n, k, s, b, a, d) in enumerate(zip(size, kernel, stride, before, after, dilation, strict=True)):
        exact = (n + b + a - (k - 1) * d - 1) / s + 1
        count = math.floor(exact)
        if attributes.get("ceil_mode", 0):
            count = min(math.ceil(exact), -(-(n + b) // s))  # no window starts in the padding at the end
        behind.append((count - 1) * s + (k - 1) * d + 1 - n - b)
        taps = np.arange(count)[None] * s - b + d * np.arange(k)[:, None]
        parts = [pick(builder, step, places_of(builder, step).take(tap, axis=number + 2)) for tap in _inside(taps, n)]
        step = reduce(partial(_larger, builder), parts)
    if len(kernel) == 2:
        whole = partial(_pooled, kernel=kernel, stride=stride, dilation=dilation, pads=pads(before, behind))
        step = builder.combine([(1.0, step)], monotone=Monotone(whole, (image,)))
    return step


def _pooled(x: Tensor, *, kernel: Shape, stride: Shape, dilation: Shape, pads: list[int]) -> Tensor:
    """Apply the whole pooling to images (N, 1, C, H, W) at once."""
    images = x.flatten(0, 1)
    if any(pads):
        images = torch.nn.functional.pad(images, pads, value=-math.inf)
    y = torch.nn.functional.max_pool2d(images, kernel, stride, dilation=dilation)
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _inside(taps: Array, size: int) -> Array:
    """Return ``taps`` (kernel, windows) with each place outside [0, size) replaced by its window's first inside it.

    Raises Unboundable for a window that lies in the padding completely.
    """
    inside = (taps >= 0) & (taps < size)
    if not inside.any(axis=0).all():
        raise Unboundable("MaxPool with a window that contains only padding")
    first = taps[inside.argmax(axis=0), np.arange(taps.shape[1])]
    return np.where(inside, taps, first)


def average_pool(builder: Builder, node: NodeProto) -> str:
    """Rewrite AveragePool as a convolution with ones, divided by the number of values in each window."""
    attributes = attributes_of(node)
    step = builder.variable(node.input[0])
    kernel, channels = tuple(attributes["kernel_shape"]), builder.shapes[step][1]
    if attributes.get("ceil_mode", 0):
        raise Unboundable("AveragePool with ceil_mode")
    ones = np.ones((channels, 1, *kernel))
    summed = convolve(builder, step, ones, None, attributes, channels)
    if attributes.get("count_include_pad", 0):
        return builder.combine([(1 / math.prod(kernel), summed)])
    counts = builder.operator(summed).apply(torch.ones(1, *builder.shapes[step], dtype=torch.float64))[0]
    return builder.combine([(1 / np.asarray(counts), summed)])
