"""Sound upper bounds on the L2 operator norms of linear layers, in float64.

Never by power iteration, which approaches the norm from below. The largest eigenvalue of a Gram matrix by LAPACK is
exact up to rounding, and the result is rounded up by more than LAPACK's error.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ROUND_UP = 1 + 1e-9
"""Far above the relative error of a float64 eigenvalue problem of these sizes (about n x 1e-16)."""


def dense(matrix: NDArray[np.float64]) -> float:
    """Norm of x -> W x, W (out, in)."""
    return float(np.linalg.norm(matrix, ord=2)) * ROUND_UP


def convolution(
    kernel: NDArray[np.float64],
    *,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> float:
    """Norm of a zero-padded strided convolution, kernel (out, in / groups, *k), on inputs (in, *size).

    Zero padding embeds the image in a torus so large that no window wraps onto it, so the norm of the circular
    convolution there is an upper bound. That one splits into one small matrix per frequency (Sedghi, Gupta and Long,
    "The Singular Values of Convolutional Layers", arXiv 1805.10408); a stride folds the frequencies that become equal
    into one row.
    ``padding`` as in ONNX: all begins, then all ends.
    """
    blocks = kernel.reshape(groups, kernel.shape[0] // groups, *kernel.shape[1:])
    return max(_torus(block, size, stride, padding, dilation) for block in blocks) * ROUND_UP


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
    folded = folded.transpose(*distinct, 0, 1, *aliases)
    rows = folded.reshape(-1, out_channels, in_channels * math.prod(stride))  # (frequencies, O, I * aliases)
    if rows.shape[1] > rows.shape[2]:
        rows = rows.conj().transpose(0, 2, 1)
    gram = rows @ rows.conj().transpose(0, 2, 1)
    return math.sqrt(max(0.0, float(np.linalg.eigvalsh(gram)[:, -1].max())) / math.prod(stride))
