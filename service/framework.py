"""What every request would pay BentoML for, to nobody's use. BentoML is pinned, and a test looks whether this holds."""

import gc
from collections.abc import Mapping
from typing import Any

from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.server.http import traffic
from starlette.types import ASGIApp


def tracing() -> Mapping[str, Any]:
    """BentoML's setting. Without an exporter nobody reads a request's five spans, half of the event loop's work."""
    return {} if BentoMLContainer.tracing.exporter_type.get() else {"excluded_urls": ".*"}


def untimed(app: ASGIApp, timeout: float) -> ASGIApp:  # noqa: ARG001  as BentoML calls it
    """In the place of BentoML's timeout, which answers in words of its own and keeps every timer until it is due: at a
    thousand requests a second, gigabytes. Our own deadlines are in service.lanes and service.body.
    """
    return app


def settle() -> None:
    """What has been loaded stays: the garbage collector need not look through it again and again, for 0.1 s a time."""
    gc.collect()
    gc.freeze()


traffic.TimeoutMiddleware = untimed  # type: ignore[misc, assignment]
