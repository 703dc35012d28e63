"""Rules for arithmetic and for layers with weights."""

import math
from typing import Any

import numpy as np
import torch
from onnx import NodeProto

from gauntlet.bounds.builder import Array, Builder, Unboundable, attributes_of, real
from gauntlet.bounds.linear_operators import Convolution, Dense, Shape, Total
from gauntlet.bounds.rules_movement import expand, permute, reshape


def add(builder: Builder, node: NodeProto) -> str:
    """Add a step for Add, Sub or Sum, of variables and constants."""
    signs = [1.0, -1.0] if node.op_type == "Sub" else [1.0] * len(node.input)
    shapes = [builder.shapes[builder.variables[n]] for n in node.input if n in builder.variables]
    fixed = [s * builder.constant(n) for s, n in zip(signs, node.input, strict=True) if n not in builder.variables]
    offset = sum(fixed[1:], fixed[0]) if fixed else np.zeros(())
    shape = np.broadcast_shapes(*shapes, offset.shape)
    terms = [
        (s, expand(builder, builder.variables[n], shape))
        for s, n in zip(signs, node.input, strict=True)
        if n in builder.variables
    ]
    return builder.combine(terms, offset)


def scale(builder: Builder, node: NodeProto) -> str:
    """Add a step for Mul by a constant, Div by a constant, or Neg."""
    variable = next(name for name in node.input if name in builder.variables)
    others = [name for name in node.input if name != variable]
    factor: Array = np.array(-1.0)
    if node.op_type != "Neg":
        if len(others) != 1 or others[0] in builder.variables:
            raise Unboundable(f"{node.op_type} of two variables")
        if node.op_type == "Div" and variable != node.input[0]:
            raise Unboundable("Div by a variable")
        factor = builder.constant(others[0])
        factor = 1 / factor if node.op_type == "Div" else factor
    step = builder.variables[variable]
    step = expand(builder, step, np.broadcast_shapes(builder.shapes[step], factor.shape))
    return builder.combine([(factor, step)])


def batch_normalization(builder: Builder, node: NodeProto) -> str:
    attributes = attributes_of(node)
    if attributes.get("training_mode", 0):
        raise Unboundable("BatchNormalization in training mode")
    weight, bias, mean, variance = (builder.constant(name) for name in node.input[1:5])
    factor = weight / np.sqrt(variance + attributes.get("epsilon", 1e-5))
    step = builder.variable(node.input[0])
    column = (-1, *([1] * (len(builder.shapes[step]) - 2)))
    return builder.combine([(factor.reshape(column), step)], (bias - mean * factor).reshape(column))


def gemm(builder: Builder, node: NodeProto) -> str:
    attributes = attributes_of(node)
    if attributes.get("transA", 0):
        raise Unboundable("Gemm with transA")
    weight = builder.constant(node.input[1])
    weight = (weight if attributes.get("transB", 0) else weight.T) * attributes.get("alpha", 1.0)
    bias = None
    if len(node.input) > 2 and node.input[2]:
        bias = builder.constant(node.input[2]) * attributes.get("beta", 1.0)
    return _dense(builder, builder.variable(node.input[0]), weight, bias)


def matmul(builder: Builder, node: NodeProto) -> str:
    """Add steps for MatMul with a constant matrix on either side of the variable."""
    left, right = node.input
    if left in builder.variables and right in builder.variables:
        raise Unboundable("MatMul of two variables")
    if left in builder.variables:
        return _dense(builder, builder.variables[left], _matrix(builder, right).T, None)
    step = builder.variables[right]
    rank = len(builder.shapes[step])
    if rank == 1:
        return _dense(builder, step, _matrix(builder, left), None)
    turned = (*range(rank - 2), rank - 1, rank - 2)  # W x = (x^T W^T)^T
    product = _dense(builder, permute(builder, step, turned), _matrix(builder, left), None)
    return permute(builder, product, turned)


def _matrix(builder: Builder, name: str) -> Array:
    weight = builder.constant(name)
    while weight.ndim > 2 and weight.shape[0] == 1:
        weight = weight[0]
    if weight.ndim != 2:
        raise Unboundable(f"MatMul with a weight of shape {weight.shape}")
    return weight


def _dense(builder: Builder, step: str, weight: Array, bias: Array | None) -> str:
    shape = builder.shapes[step]
    if not shape or shape[-1] != weight.shape[1]:
        raise Unboundable(f"a matrix {weight.shape} for values of shape {shape}")
    out = (*shape[:-1], len(weight))
    offset = None if bias is None else real(np.broadcast_to(bias, out))
    return builder.add(Dense(real(weight), math.prod(shape[:-1]), bias=offset), [step], out)


def conv(builder: Builder, node: NodeProto) -> str:
    weight = builder.constant(node.input[1])
    bias = builder.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    groups = attributes_of(node).get("group", 1)
    return convolve(builder, builder.variable(node.input[0]), weight, bias, attributes_of(node), groups)


def convolve(
    builder: Builder, step: str, weight: Array, bias: Array | None, attributes: dict[str, Any], groups: int
) -> str:
    """Add a convolution with the strides, pads and dilations in a node's attributes."""
    shape, rank = builder.shapes[step], weight.ndim - 2
    if len(shape) != rank + 2 or shape[0] != 1 or rank not in (1, 2, 3):
        raise Unboundable(f"a convolution of values of shape {shape}")
    stride, before, after, dilation = windows(attributes, shape[2:], weight.shape[2:])
    operator = Convolution(real(weight), shape[2:], stride, before, after, dilation, groups)
    out = tuple(operator.apply(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:])
    offset = None if bias is None else real(np.broadcast_to(bias.reshape(-1, *([1] * rank)), out))
    operator = Convolution(real(weight), shape[2:], stride, before, after, dilation, groups, bias=offset)
    return builder.add(operator, [step], out)


def windows(attributes: dict[str, Any], size: Shape, kernel: Shape) -> tuple[Shape, Shape, Shape, Shape]:
    """Return strides, padding before, padding after, and dilations of a node's windows over inputs of this size."""
    rank = len(size)
    stride = tuple(attributes.get("strides") or [1] * rank)
    dilation = tuple(attributes.get("dilations") or [1] * rank)
    mode = attributes.get("auto_pad", b"NOTSET").decode()
    if mode in ("NOTSET", "VALID"):
        pads = attributes.get("pads") or [0] * (2 * rank)
        pads = pads if mode == "NOTSET" else [0] * (2 * rank)
        if min(pads) < 0:
            raise Unboundable("negative padding")
        return stride, tuple(pads[:rank]), tuple(pads[rank:]), dilation
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise Unboundable(f"auto_pad {mode}")
    whole = [
        max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
        for n, s, k, d in zip(size, stride, kernel, dilation, strict=True)
    ]
    small, large = tuple(w // 2 for w in whole), tuple(w - w // 2 for w in whole)
    return (stride, small, large, dilation) if mode == "SAME_UPPER" else (stride, large, small, dilation)


def reduce(builder: Builder, node: NodeProto) -> str:
    """Add steps for ReduceMean, ReduceSum or GlobalAveragePool."""
    attributes = attributes_of(node)
    step = builder.variable(node.input[0])
    shape = builder.shapes[step]
    if node.op_type == "GlobalAveragePool":
        axes = list(range(2, len(shape)))
    elif len(node.input) > 1 and node.input[1]:
        axes = [int(axis) for axis in builder.constant(node.input[1])]
    else:
        axes = list(attributes.get("axes", []))
    if not axes and attributes.get("noop_with_empty_axes", 0):
        return step
    dims = tuple(sorted(axis % len(shape) for axis in axes)) or tuple(range(len(shape)))
    kept = tuple(1 if d in dims else n for d, n in enumerate(shape))
    total = builder.add(Total(dims, shape), [step], kept)
    if node.op_type != "ReduceSum":
        total = builder.combine([(1 / math.prod(shape[d] for d in dims), total)])
    if node.op_type == "GlobalAveragePool" or attributes.get("keepdims", 1):
        return total
    return reshape(builder, total, tuple(n for d, n in enumerate(shape) if d not in dims))
