"""The norms there are, by name. Free of torch, so that a schema can speak of them."""

from typing import Literal, get_args

Norm = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[Norm, ...] = get_args(Norm)
