"""What the API processes pass on, as a call: who made it, and whether anybody still waits for the answer."""

import contextlib

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.request_context import CALL, Call, identity


class InternalCalls:
    """ASGI middleware. It believes the headers that service.request_context.internal_headers made."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def disconnected() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        headers = Headers(scope=scope)
        request_id, client, caller = identity(headers)
        call = Call(
            request_id=request_id,
            method=scope["method"],
            target=scope["path"],
            client=client,
            headers=headers,
            caller=caller,
            inference_protocol=scope["path"].startswith("/v2/"),
            disconnected=disconnected,
        )
        token = CALL.set(call)
        try:
            with contextlib.suppress(Exception):  # answered and logged: Starlette raises it again for the server
                await self._app(scope, receive, send)
        finally:
            CALL.reset(token)
