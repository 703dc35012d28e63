"""What holds for all tests."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Whoever opens models chooses the threads of the process: not those of the next test, whose bits they change."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
