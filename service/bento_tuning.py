"""Overrides of BentoML defaults that we do not want: request timeout, restart policy, validation of answers, spans
without an exporter. BentoML is pinned, and tests look whether this holds.
"""

import contextlib
import functools
import gc
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from _bentoml_sdk.method import APIMethod
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.server.http import traffic
from bentoml._internal.utils import circus as arbiters
from bentoml._internal.utils.analytics import usage_stats
from bentoml._internal.utils.uri import uri_to_path
from circus import watcher as circus_watcher
from circus.arbiter import Arbiter
from circus.process import Process
from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp

from service.errors import ServiceError
from service.exit_with_parent import PARENT
from service.process_starter import ProcessStarter
from service.responses import error_response
from service.settings import Settings, SettingsError

A = TypeVar("A")
Method = Callable[[Any, A], Awaitable[Response]]

COMPUTE = "compute"  # the service that the entry service depends on
LOOK = 1.0  # seconds between two looks of BentoML's parent whether its processes live; 10 otherwise


def tracing() -> Mapping[str, Any]:
    """BentoML's setting. Without an exporter nobody reads a request's five spans, half of the event loop's work."""
    return {} if BentoMLContainer.tracing.exporter_type.get() else {"excluded_urls": ".*"}


def api_processes() -> int:
    """How many answer. Settings that cannot be are told by the supervisor, before any process starts."""
    with contextlib.suppress(SettingsError):
        return Settings.load().api_processes
    return 1


def socket_of(service: str) -> Path:
    """The Unix socket on which a service listens that the entry service depends on."""
    path = uri_to_path(BentoMLContainer.remote_runner_mapping.get()[service])
    return Path(path)


def answers(model: type[BaseModel]) -> Callable[[Method[A]], Method[A]]:
    """An answer that is made already, and an error as its envelope: BentoML would validate again, and make a 500 of it.

    ``model`` is what BentoML's own client is told of the answer.
    """

    def decorate(method: Method[A]) -> Method[A]:
        @functools.wraps(method)
        async def wrapper(self: Any, request: A, /) -> Response:
            try:
                return await method(self, request)
            except Exception as error:
                return error_response(error)

        wrapper.__annotations__ = {**method.__annotations__, "return": model}
        del wrapper.__wrapped__  # BentoML would read the annotations of what it wraps
        return wrapper

    return decorate


def untimed(app: ASGIApp, timeout: float) -> ASGIApp:  # noqa: ARG001  as BentoML calls it
    """In the place of BentoML's timeout, which answers in words of its own and keeps every timer until it is due: at a
    thousand requests a second, gigabytes. Our own deadlines are in service.scheduling and service.middleware.
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


class ServiceArbiter(arbiters.Arbiter):
    """BentoML's parent: it looks each second whether its processes live, and starts again those that do not.

    In a container BentoML would end with the first of them, although the others answer. And it would delete the socket
    of the compute process before the requests that need it have ended.
    """

    def __init__(self, watchers: list[Any], *args: Any, **options: Any) -> None:
        for watcher in watchers:
            watcher.respawn = True
        super().__init__(watchers, *args, **{**options, "check_delay": LOOK})

    def stop(self) -> Any:
        return Arbiter.stop(self)

    def start(self, cb: Callable[[Any], Any] | None = None) -> None:
        try:
            super().start(cb)
        finally:
            self.exit_stack.close()


class ForkedService(Process):  # type: ignore[misc]  # circus has no types
    """A process of BentoML's arbiter, forked from one that has imported this service: BentoML would import it anew."""

    def __init__(self, starter: ProcessStarter, *args: Any, **options: Any) -> None:
        self._starter = starter
        super().__init__(*args, **options)

    def spawn(self) -> None:
        self.started = time.time()
        _, _, module, *arguments = self.format_args(sockets_fds=self._get_sockets_fds())  # python -m module ...
        socket = int(arguments[arguments.index("--fd") + 1])
        name = COMPUTE if COMPUTE in self.name else "api"
        environment = {**self.env, PARENT: str(os.getpid())}
        self._worker = self._starter.start(name, module, arguments, environment, Path(self.working_dir), [socket])


def supervise_services(starter: ProcessStarter) -> None:
    """In BentoML's parent process, before it serves."""
    os.environ.pop("BENTOML_NO_UDS", None)  # a TCP port of the compute process would be anybody's on this machine
    arbiters.Arbiter = ServiceArbiter  # type: ignore[misc]
    circus_watcher.Process = partial(ForkedService, starter)


def is_ours(record: logging.LogRecord) -> bool:
    """BentoML logs a traceback for what a client did wrong, and we answer that."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (ValidationError, ServiceError))


logging.getLogger("bentoml._internal.server.http_app").addFilter(is_ours)
usage_stats.do_not_track.cache_clear()  # ``bentoml serve`` has asked before service/__init__.py could answer
traffic.TimeoutMiddleware = untimed  # type: ignore[misc, assignment]
