"""Numbers that float32 holds, in which models compute. Free of torch, so that a schema can speak of them."""

import itertools
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

LARGEST = float(np.finfo(np.float32).max)
Float32 = Annotated[FiniteFloat, Field(ge=-LARGEST, le=LARGEST)]
"""A number that does not become infinite when a model computes with it."""

MAX_EPS = 1e9
"""Beyond any image in any norm; its square and its multiples are still float32."""


def reach(values: NDArray[np.generic]) -> str:
    """The smallest and the largest, in as many digits as tell each from every other number of the type."""
    return f"{values.min()!s} to {values.max()!s}"


def only_numbers(values: list[Any]) -> bool:
    """Whether there is nothing but numbers in nested lists, all equally deep.

    Of text numpy would make numbers, or room for the longest as many times as there are elements.
    """
    kinds = set(map(type, values))
    while kinds == {list}:
        values = list(itertools.chain.from_iterable(values))
        kinds = set(map(type, values))
    return kinds <= {int, float}
