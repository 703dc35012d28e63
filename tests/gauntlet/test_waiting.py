"""Threads that wait do not spin: set in time, and not against the user's word."""

import os
import subprocess
import sys

import pytest

TOLD = "import os, {package}; import sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"


@pytest.mark.parametrize("package", ["gauntlet", "service", "training", "bench"])
def test_the_policy_is_there_before_torch(package: str) -> None:
    assert said(package, {}) == "PASSIVE False"


def test_who_chose_a_policy_keeps_it() -> None:
    assert said("gauntlet", {"OMP_WAIT_POLICY": "ACTIVE"}) == "ACTIVE False"


def said(package: str, chosen: dict[str, str]) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | chosen
    command = [sys.executable, "-c", TOLD.format(package=package)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()
