"""The range of float32, in which models compute. It imports no torch, so that schemas can use it."""

import itertools
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

LARGEST = float(np.finfo(np.float32).max)
Float32 = Annotated[FiniteFloat, Field(ge=-LARGEST, le=LARGEST)]
"""A finite number within the range of float32: it does not become infinite on conversion."""

MAX_EPS = 1e9
"""Largest eps: beyond any image in any norm, while its square and multiples are still within float32."""


def reach(values: NDArray[np.generic]) -> str:
    """Return the range as text, smallest to largest, with enough digits to identify each number of its type."""
    return f"{values.min()!s} to {values.max()!s}"


def only_numbers(values: list[Any]) -> bool:
    """Return whether nested lists of uniform depth contain only numbers.

    numpy would convert text to numbers, or allocate the length of the longest text for every element.
    """
    types = set(map(type, values))
    while types == {list}:
        values = list(itertools.chain.from_iterable(values))
        types = set(map(type, values))
    return types <= {int, float}
