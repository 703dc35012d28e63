"""The reference pages of the documentation are what the code says."""

import re

import pytest

from bench import reference
from gauntlet.attacks import ATTACKS


@pytest.mark.parametrize("page", reference.PAGES)
def test_the_pages_are_up_to_date(page, monkeypatch):
    """Where this fails: `make reference`."""
    for name in ("GAUNTLET_MODELS", "GAUNTLET_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", reference.WIDTH)
    assert (reference.FOLDER / f"{page}.md").read_text() == f"{reference.PAGES[page]()}\n"


def test_every_attack_names_its_paper_or_is_a_baseline():
    for name, attack in ATTACKS.items():
        _, norms, paper, _ = reference.attack_row(name)
        assert norms.count(",") + 1 == len(attack.norms)
        assert re.search(r"arxiv.org/abs/\d{4}\.\d{4,5}", paper) or name in ("gaussian", "noise"), name


def test_a_code_that_no_route_declares_is_an_error(monkeypatch):
    monkeypatch.setattr(
        reference, "ENDPOINTS", [row for row in reference.ENDPOINTS if row.path != "/robustness-report"]
    )
    with pytest.raises(ValueError, match="declares idempotency_mismatch and quota_exceeded"):
        reference.errors()
