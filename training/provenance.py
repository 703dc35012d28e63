"""The provenance of an artefact: commit, hardware, versions."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime-gpu", "numpy")


def commit() -> str:
    """Return the commit of the code, with ``-dirty`` if files differ from it; ``unknown`` outside a repository."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

    try:
        changed = git("status", "--porcelain", "--", ".", "../gauntlet")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def hardware(device: torch.device) -> str:
    """Return the name of the GPU, or the number of cores and the name of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    return f"{cores} {'core' if cores == 1 else 'cores'} of {names[0] if names else platform.machine()}"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the result depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
