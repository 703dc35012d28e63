"""What holds for all tests."""

from collections.abc import Iterator

import pytest
import torch

from gauntlet.runtime import use_threads


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Whoever opens models chooses the cores of the process: not those of the next test, whose bits they change."""
    before = torch.get_num_threads()
    yield
    use_threads(before)
