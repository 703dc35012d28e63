"""The service against its own /openapi.json, and how its fuzzer counts."""

import subprocess
import sys

import pytest

from bench.contract.__main__ import SCHEMATHESIS, faults
from bench.serving.asks import ROOT

GOOD = {
    "test_cases": {"generated": 7, "unique_failures": 0, "errored": 0},
    "operations": {"tested": 2, "total": 2},
    "complete": True,
}


def test_a_run_is_good_only_if_all_of_it_was():
    assert faults(GOOD, "a line", 7) == []
    for change in (
        {"test_cases": {**GOOD["test_cases"], "unique_failures": 1}},
        {"test_cases": {**GOOD["test_cases"], "errored": 1}},
        {"operations": {"tested": 1, "total": 2}},
        {"complete": False},
    ):
        assert len(faults({**GOOD, **change}, "a line", 7)) == 1
    assert len(faults(GOOD, "Traceback (most recent call last):", 7)) == 1
    assert len(faults(GOOD, "a line", 8)) == 1


@pytest.mark.slow
@pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="make contract installs schemathesis")
def test_a_slice_of_the_cases_finds_nothing():
    options = ["--cases", "1000", "--phases", "examples,coverage"]
    done = subprocess.run(  # noqa: PLW1510  its output says why
        [sys.executable, "-m", "bench.contract", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stdout
