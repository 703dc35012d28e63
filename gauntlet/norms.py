"""The names of the supported norms. It imports no torch, so that schemas can use it."""

from typing import Literal, get_args

Norm = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[Norm, ...] = get_args(Norm)
