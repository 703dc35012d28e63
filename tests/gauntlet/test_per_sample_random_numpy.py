"""Arrays and tensors of the same key hold the same numbers."""

import numpy as np
import pytest

from gauntlet import per_sample_random_numpy
from gauntlet.per_sample_random import KeyedRandom


@pytest.mark.parametrize("seed", [0, 1, 7, 2**32 - 1, 2**53 - 1])
@pytest.mark.parametrize(("draw", "size"), [(0, 1), (3, 64), (1, 1000)])
def test_they_are_those_of_the_tensors(seed: int, draw: int, size: int):
    keys = KeyedRandom.span(seed, 0, 5)
    assert np.array_equal(per_sample_random_numpy.uniform(seed, 5, draw, size), keys.uniform(draw, (size,)).numpy())
    ours, theirs = per_sample_random_numpy.normal(seed, 5, draw, size), keys.normal(draw, (size,)).numpy()
    assert ours.dtype == np.float32
    assert np.allclose(ours, theirs, rtol=3e-7, atol=0)
    assert (ours == theirs).mean() > 0.99
