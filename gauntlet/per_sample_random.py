"""Random numbers keyed by (seed, sample index, draw), never by a sample's position in a batch.

Dropping finished samples, the batch size and the number of workers therefore do not change the numbers. The generator
is counter-based: splitmix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014) over
the hashed key, in wrapping int64 arithmetic, with the same bits on every device.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def _shift(z: Tensor, bits: int) -> Tensor:
    """Return the logical right shift: torch has only the arithmetic one for int64."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MIX_1
    z = (z ^ _shift(z, 27)) * _MIX_2
    return z ^ _shift(z, 31)


@dataclass(frozen=True)
class KeyedRandom:
    """A source of random numbers for the samples with the indices ``index`` (B,), int64."""

    seed: int
    index: Tensor

    @classmethod
    def span(cls, seed: int, first: int, n: int, device: torch.device | str = "cpu") -> "KeyedRandom":
        """Return the source for the samples first .. first + n - 1."""
        return cls(seed, torch.arange(first, first + n, device=device))

    def at(self, rows: Tensor) -> "KeyedRandom":
        """Return the same source for some rows of the batch: a mask (B,) or positions."""
        return KeyedRandom(self.seed, self.index[rows])

    def uniform(self, draw: int, shape: tuple[int, ...] = ()) -> Tensor:
        """Return uniform numbers in (0, 1), float32, (B, *shape). Equal seed, index and ``draw`` give equal numbers."""
        size = torch.Size(shape).numel()
        key = _mix(_mix(torch.full_like(self.index, self.seed) + _GAMMA) + self.index * _GAMMA)
        key = _mix(key + torch.full_like(key, draw + 1) * _MIX_2)
        counter = torch.arange(1, size + 1, device=self.index.device)
        bits = _mix(key[:, None] + counter * _GAMMA)  # (B, size)
        return ((_shift(bits, 41).float() + 0.5) / 2**23).view(-1, *shape)  # 23 bits plus one half: exact in float32

    def normal(self, draw: int, shape: tuple[int, ...] = ()) -> Tensor:
        """Return standard normal numbers, float32, (B, *shape)."""
        return torch.special.ndtri(self.uniform(draw, shape).double()).float()
