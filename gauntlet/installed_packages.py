"""Installed dependencies of Gauntlet: their versions, and the advice to show when one is missing."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

ONNXRUNTIME = ("onnxruntime-gpu", "onnxruntime")  # distributions of one package; exactly one is installed
COMPUTES = ("torch", "onnx2pytorch", "onnxruntime")  # packages that the extras cpu and gpu install
ADVICE = (
    "{missing} is not installed: pip install 'gauntlet-robustness[gpu]', or without CUDA: "
    "pip install 'gauntlet-robustness[cpu]' --extra-index-url https://download.pytorch.org/whl/cpu"
)


def versions(names: Sequence[str]) -> dict[str, str]:
    """Return the version of each distribution, or ``not installed``."""
    return {name: _version(name) or "not installed" for name in names}


def onnxruntime() -> str:
    """Return the name of the distribution that provides ONNX Runtime."""
    return next((name for name in ONNXRUNTIME if _version(name)), ONNXRUNTIME[-1])


def advice(error: ModuleNotFoundError) -> str | None:
    """Return what to install if the missing module is one that the extras cpu and gpu install; else None."""
    missing = (error.name or "").partition(".")[0]
    return ADVICE.format(missing=missing) if missing in COMPUTES else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
