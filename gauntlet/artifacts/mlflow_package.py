"""The ``mlflow`` package, imported when it is first used."""

import os
from types import ModuleType

from gauntlet.errors import InvalidInput


def client() -> ModuleType:
    """Return the package, with its telemetry disabled. Raises InvalidInput if it is not installed."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidInput("MLflow is not installed: pip install 'gauntlet-robustness[mlflow]'") from error
    return mlflow
