"""What every request would pay BentoML for, to nobody's use. BentoML is pinned, and a test looks whether this holds."""

import gc
from collections.abc import Mapping
from typing import Any

from _bentoml_sdk.method import APIMethod
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.server.http import traffic
from starlette.types import ASGIApp


def tracing() -> Mapping[str, Any]:
    """BentoML's setting. Without an exporter nobody reads a request's five spans, half of the event loop's work."""
    return {} if BentoMLContainer.tracing.exporter_type.get() else {"excluded_urls": ".*"}


def untimed(app: ASGIApp, timeout: float) -> ASGIApp:  # noqa: ARG001  as BentoML calls it
    """In the place of BentoML's timeout, which answers in words of its own and keeps every timer until it is due: at a
    thousand requests a second, gigabytes. Our own deadlines are in service.http.lanes and service.http.body.
    """
    return app


def settle(service: object) -> None:
    """Once all is loaded. BentoML would bind a method anew for every request, its signature read again; and the garbage
    collector would look again and again, for 0.1 s, through what stays.
    """
    for name in service.__class__.__dict__:
        if isinstance(getattr(type(service), name), APIMethod):
            setattr(service, name, getattr(service, name))
    gc.collect()
    gc.freeze()


traffic.TimeoutMiddleware = untimed  # type: ignore[misc, assignment]
