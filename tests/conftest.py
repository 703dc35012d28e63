"""What holds for all tests."""

from collections.abc import Iterator

import pytest
import torch

from gauntlet.runtime.classifier import use_threads

LONGEST = (
    "service/test_uploads.py",
    "service/test_reports.py",
    "training/test_jobs.py",
    "test_readme.py",
    "service/test_outgoing.py",
    "gauntlet/attacks/test_attacks.py",
    "gauntlet/checks/test_checks.py",
    "gauntlet/report/test_report.py",
    "training/test_calibration.py",
)
"""Files that take longest: begun first, so that no process of pytest is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the longest files to the front; the order of all others, and within a file, stays."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(
        key=lambda item: min((places[name] for name in places if str(item.path).endswith(name)), default=len(places))
    )


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Whoever opens models chooses the cores of the process: not those of the next test, whose bits they change."""
    before = torch.get_num_threads()
    yield
    use_threads(before)
