"""Sound upper bounds on the L2 operator norms of linear layers, in float64.

Power iteration approaches a norm from below, so it only gives a guess. A Cholesky factorisation proves the guess: it
exists for s I - A only if no eigenvalue of A exceeds s.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ROUND_UP = 1 + 1e-9
"""Factor of each norm: far above the relative error of a float64 Cholesky factorisation of these sizes (about n x
1e-16)."""

POWER_STEPS = 50  # of the power iteration
COMPLEX = 4  # real operations in one complex operation

RAISE = 1e-6  # relative amount by which the guess of an eigenvalue is raised before the first attempt to prove it


def dense(matrix: NDArray[np.float64]) -> float:
    """Return an upper bound of the norm of x -> W x, for W (out, in)."""
    small = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return math.sqrt(largest_eigenvalue((small @ small.T)[None])) * ROUND_UP


def largest_eigenvalue(grams: NDArray[np.float64] | NDArray[np.complex128]) -> float:
    """Return an upper bound, tight to about 1e-6, on every eigenvalue of positive semidefinite matrices (F, n, n)."""
    n = grams.shape[-1]
    vectors = np.random.default_rng(0).normal(size=(len(grams), n, 1)).astype(grams.dtype)
    for _ in range(POWER_STEPS):
        vectors = grams @ vectors
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    guess = float(np.linalg.norm(grams @ vectors, axis=1).max())
    raised = RAISE
    while True:
        bound = guess * (1 + raised) + np.finfo(np.float64).tiny
        try:
            np.linalg.cholesky(bound * np.eye(n) - grams)
        except np.linalg.LinAlgError:  # the guess was too low
            raised *= 4
        else:
            return bound


def convolution(
    kernel: NDArray[np.float64],
    *,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> float:
    """Return an upper bound of a zero-padded convolution's norm: kernel (out, in / groups, *k), inputs (in, *size).

    The image is embedded, by zero padding, in a torus so large that no window wraps onto it, so the norm of the
    circular convolution on the torus is an upper bound. The circular convolution splits into one small matrix per
    frequency (Sedghi, Gupta and Long, "The Singular Values of Convolutional Layers", arXiv 1805.10408); with a stride,
    the frequencies that alias are put into the same matrix.
    ``padding`` has the order of ONNX: the begin of every axis, then the end of every axis.
    """
    blocks = kernel.reshape(groups, kernel.shape[0] // groups, *kernel.shape[1:])
    return max(_torus(block, size, stride, padding, dilation) for block in blocks) * ROUND_UP


def dense_operations(shape: Sequence[int]) -> float:
    """Estimate how many floating-point operations ``dense`` takes for a matrix of this shape."""
    small, large = sorted(shape)
    return 2.0 * small**2 * (large + POWER_STEPS + small)


def convolution_operations(
    kernel_shape: Sequence[int], *, size: Sequence[int], stride: Sequence[int], groups: int = 1
) -> float:
    """Estimate how many floating-point operations ``convolution`` takes for kernels (out, in / groups, *k)."""
    frequencies = math.prod(math.ceil(n / s) for n, s in zip(size, stride, strict=True)) / 2
    matrix = kernel_shape[0] // groups, kernel_shape[1] * math.prod(stride)
    return groups * frequencies * COMPLEX * dense_operations(matrix)


def _torus(
    kernel: NDArray[np.float64],
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> float:
    rank = len(size)
    out_channels, in_channels = kernel.shape[:2]
    reach = [d * (k - 1) + 1 for k, d in zip(kernel.shape[2:], dilation, strict=True)]
    spread = np.zeros((out_channels, in_channels, *reach))
    spread[(slice(None), slice(None), *(slice(None, None, d) for d in dilation))] = kernel
    extent = []
    for axis in range(rank):
        least = size[axis] + max(padding[axis] + padding[axis + rank], reach[axis] - 1)
        extent.append(math.ceil(least / stride[axis]) * stride[axis])
    spectrum = np.fft.fftn(spread, s=extent, axes=range(2, 2 + rank))  # (O, I, *extent)
    # Frequency f of an axis of length s * q aliases with f + q, f + 2q, ...: split each axis into (s, q).
    split = [part for e, s in zip(extent, stride, strict=True) for part in (s, e // s)]
    folded = spectrum.reshape(out_channels, in_channels, *split)
    aliases = [2 + 2 * axis for axis in range(rank)]
    distinct = [3 + 2 * axis for axis in range(rank)]
    folded = folded.transpose(0, 1, *aliases, *distinct)[
        ..., : extent[-1] // stride[-1] // 2 + 1
    ]  # the rest: conjugates
    rows = folded.reshape(out_channels, in_channels * math.prod(stride), -1).transpose(2, 0, 1)  # (F, O, I * aliases)
    if rows.shape[1] > rows.shape[2]:
        rows = rows.transpose(0, 2, 1)
    return math.sqrt(largest_eigenvalue(rows @ rows.conj().transpose(0, 2, 1)) / math.prod(stride))
