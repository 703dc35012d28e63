"""The random numbers of gauntlet.per_sample_random in numpy, for processes without torch; equal for the same seed."""

import numpy as np
from numpy.typing import NDArray

_GAMMA, _MIX_1, _MIX_2 = (np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
Words = NDArray[np.uint64]


def _mix(z: Words) -> Words:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def uniform(seed: int, n: int, draw: int, size: int) -> NDArray[np.float32]:
    """Return uniform numbers in (0, 1), (n, size), for the samples 0 to n - 1. Each ``draw`` gives other numbers."""
    index = np.arange(n, dtype=np.uint64)
    key = _mix(_mix(np.full_like(index, seed) + _GAMMA) + index * _GAMMA)
    key = _mix(key + np.full_like(key, draw + 1) * _MIX_2)
    bits = _mix(key[:, None] + np.arange(1, size + 1, dtype=np.uint64) * _GAMMA)  # (n, size)
    numbers: NDArray[np.float32] = ((bits >> np.uint64(41)).astype(np.float32) + np.float32(0.5)) / np.float32(2**23)
    return numbers


def normal(seed: int, n: int, draw: int, size: int) -> NDArray[np.float32]:
    """Return standard normal numbers, (n, size), for the samples 0 to n - 1."""
    from scipy.special import ndtri  # noqa: PLC0415  takes a quarter of a second and 15 MB, so imported on use

    numbers: NDArray[np.float32] = ndtri(uniform(seed, n, draw, size).astype(np.float64)).astype(np.float32)
    return numbers
