"""Work that ends when nobody waits for its answer any more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from threading import Event

import anyio

from service.errors import Code, ServiceError


@contextlib.asynccontextmanager
async def while_connected(disconnected: Callable[[], Awaitable[None]], gone: Event) -> AsyncIterator[None]:
    """Once the client has hung up, ``gone`` is set and what waits in here is cancelled."""
    with anyio.CancelScope() as scope:

        async def watch() -> None:
            await disconnected()
            gone.set()
            scope.cancel()

        watcher = asyncio.create_task(watch())
        try:
            yield
        finally:
            watcher.cancel()


def client_gone() -> ServiceError:
    return ServiceError(Code.CLIENT_GONE, "the client has hung up")
