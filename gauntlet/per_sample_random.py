"""Random numbers keyed by (seed, sample index, draw), never by a sample's place in a batch.

Dropping finished samples, another batch size or another number of workers therefore changes nothing. The generator is
counter based: splitmix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014) over
the hashed key, in wrapping int64 arithmetic, the same bits on every device.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift: int64 has only the arithmetic one."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MIX_1
    z = (z ^ _shift(z, 27)) * _MIX_2
    return z ^ _shift(z, 31)


@dataclass(frozen=True)
class KeyedRandom:
    """A source of random numbers for the samples whose indices it holds (B,), int64."""

    seed: int
    index: Tensor

    @classmethod
    def span(cls, seed: int, first: int, n: int, device: torch.device | str = "cpu") -> "KeyedRandom":
        """For the samples first .. first + n - 1."""
        return cls(seed, torch.arange(first, first + n, device=device))

    def at(self, rows: Tensor) -> "KeyedRandom":
        """The same source for some rows of the batch: a mask (B,) or positions."""
        return KeyedRandom(self.seed, self.index[rows])

    def uniform(self, draw: int, shape: tuple[int, ...] = ()) -> Tensor:
        """In (0, 1), float32, (B, *shape). ``draw`` names the step: equal key and draw, equal numbers."""
        size = torch.Size(shape).numel()
        key = _mix(_mix(torch.full_like(self.index, self.seed) + _GAMMA) + self.index * _GAMMA)
        key = _mix(key + torch.full_like(key, draw + 1) * _MIX_2)
        counter = torch.arange(1, size + 1, device=self.index.device)
        bits = _mix(key[:, None] + counter * _GAMMA)  # (B, size)
        return ((_shift(bits, 41).float() + 0.5) / 2**23).view(-1, *shape)  # 23 bits and a half: exact in float32

    def normal(self, draw: int, shape: tuple[int, ...] = ()) -> Tensor:
        """Standard normal, float32, (B, *shape)."""
        return torch.special.ndtri(self.uniform(draw, shape).double()).float()
