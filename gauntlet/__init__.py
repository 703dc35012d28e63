"""Attacks, certificates and reports on classifiers in ONNX files. Knows of no service, and of no training.

Two lines from a file to a report::

    from gauntlet import robustness_report, write_report
    write_report(robustness_report(["model.onnx"], images, labels), "report.html")
"""

import os
import sys
import warnings
from importlib import import_module
from typing import Any

from gauntlet import installed_packages
from gauntlet.version import __version__

__all__ = ["__version__", "open_classifier", "robustness_report", "write_report"]

# Read when torch is loaded. Threads that spin while they wait halve the speed of both wherever two processes compute.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Read when ONNX Runtime is loaded, and never again. Without it events are kept under ~/.cache/Microsoft and sent.
if "onnxruntime" in sys.modules and os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
    warnings.warn("onnxruntime was imported before gauntlet: its telemetry is on", stacklevel=2)
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def __getattr__(name: str) -> Any:
    """The functions of ``gauntlet.python_api``, imported when first used; processes that only serve need no torch."""
    if name in __all__:
        try:
            return getattr(import_module("gauntlet.python_api"), name)
        except ModuleNotFoundError as error:
            raise ImportError(installed_packages.advice(error) or str(error)) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
