"""What the libraries read from the environment as they are loaded is there before them, in every package."""

import os
import subprocess
import sys

import pytest

TOLD = "import os, {package}; import sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
LOADED = "print(os.environ['ORT_DISABLE_TELEMETRY'], 'onnxruntime' in sys.modules)"


@pytest.mark.parametrize("package", ["gauntlet", "service", "training", "bench"])
def test_the_policy_is_there_before_torch(package: str) -> None:
    assert said(package, {}) == "PASSIVE False"


def test_who_chose_a_policy_keeps_it() -> None:
    assert said("gauntlet", {"OMP_WAIT_POLICY": "ACTIVE"}) == "ACTIVE False"


@pytest.mark.parametrize("package", ["gauntlet", "gauntlet.sandbox", "service", "training", "bench"])
def test_telemetry_is_off_before_onnx_runtime(package: str) -> None:
    assert run(f"import os, sys, {package}; {LOADED}", {"ORT_DISABLE_TELEMETRY": "0"}) == "1 False"


def test_telemetry_that_is_on_already_is_told() -> None:
    program = "import sys, warnings; warnings.simplefilter('error'); sys.modules['onnxruntime'] = sys; import gauntlet"
    assert run(program, {"ORT_DISABLE_TELEMETRY": "1"}) == ""
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run(program, {})
    assert "its telemetry is on" in failed.value.stderr


def said(package: str, chosen: dict[str, str]) -> str:
    return run(TOLD.format(package=package), chosen)


def run(program: str, chosen: dict[str, str]) -> str:
    ours = ("OMP_WAIT_POLICY", "ORT_DISABLE_TELEMETRY")
    environment = {name: value for name, value in os.environ.items() if name not in ours} | chosen
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()
