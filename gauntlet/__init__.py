"""Attacks, certificates and reports for classifiers in ONNX files. Independent of the service and of training.

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

# Read when torch is loaded. If two processes compute on the same cores, threads that spin while waiting halve the
# speed of both.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Read once, when ONNX Runtime is loaded. Without it, telemetry events are kept under ~/.cache/Microsoft and sent.
if "onnxruntime" in sys.modules and os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
    warnings.warn("onnxruntime was imported before gauntlet: its telemetry is on", stacklevel=2)
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def __getattr__(name: str) -> Any:
    """Import the functions of ``gauntlet.python_api`` on first use: processes that only serve need no torch."""
    if name in __all__:
        try:
            return getattr(import_module("gauntlet.python_api"), name)
        except ModuleNotFoundError as error:
            raise ImportError(installed_packages.advice(error) or str(error)) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
