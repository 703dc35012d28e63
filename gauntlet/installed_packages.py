"""What is installed under Gauntlet: versions of libraries, and what to say where a part of them is missing."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

ONNXRUNTIME = ("onnxruntime-gpu", "onnxruntime")  # distributions of one package; exactly one is installed
COMPUTES = ("torch", "onnx2pytorch", "onnxruntime")  # packages that the extras cpu and gpu bring
ADVICE = (
    "{missing} is not installed: pip install 'gauntlet-robustness[gpu]', or without CUDA: "
    "pip install 'gauntlet-robustness[cpu]' --extra-index-url https://download.pytorch.org/whl/cpu"
)


def versions(names: Sequence[str]) -> dict[str, str]:
    """The version of each distribution, ``not installed`` where there is none."""
    return {name: _version(name) or "not installed" for name in names}


def onnxruntime() -> str:
    """The distribution that ONNX Runtime came in."""
    return next((name for name in ONNXRUNTIME if _version(name)), ONNXRUNTIME[-1])


def advice(error: ModuleNotFoundError) -> str | None:
    """What to install where the error is that what computes is missing; None for another module."""
    missing = (error.name or "").partition(".")[0]
    return ADVICE.format(missing=missing) if missing in COMPUTES else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
