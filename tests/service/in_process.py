"""The service's layers in this process, without a server: what a request meets before and after the models."""

import hashlib
from typing import Any

import anyio
import httpx
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.app import LAYERS
from service.auth.keys import Key
from service.auth.keys import line as line_of
from service.errors import STATUS
from service.request_context import Scope as KeyScope
from service.schemas.main_calls import Envelope

SECRETS = {scope: f"gauntlet_{scope}-{scope}-{scope}" for scope in KeyScope}
"""One key of each scope, called as its scope."""


def entry(name: str, secret: str, scope: str, **quotas: int) -> str:
    sha256 = hashlib.sha256(secret.encode()).hexdigest()
    return line_of(Key(name=name, sha256=sha256, scope=KeyScope(scope), **quotas))


LINES = "\n".join(entry(scope, secret, scope) for scope, secret in SECRETS.items())


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for whatever is behind the request gate: reads the body and says how long it was."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await JSONResponse({"size": size})(scope, receive, send)


def door(app: ASGIApp = echo) -> ASGIApp:
    """The layers of service.app, with the settings of the environment."""
    for layer in reversed(LAYERS):
        app = layer(app)
    return app


class Caller:
    """A client of one such application."""

    def __init__(self, app: ASGIApp, address: str = "192.0.2.1", **headers: str) -> None:
        self.app, self.address, self.headers = app, address, headers

    def __call__(self, method: str, path: str, *, key: str | None = None, **options: Any) -> httpx.Response:
        headers = {**self.headers, **options.pop("headers", {})}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        if method == "POST" and "content" not in options:
            options.setdefault("json", {})

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=(self.address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, headers=headers, **options)

        return anyio.run(ask)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def told(answer: httpx.Response) -> dict[str, Any]:
    error = Envelope.model_validate(answer.json()).error
    assert answer.status_code == STATUS[error.code]
    assert ("retry-after" in answer.headers) == (answer.status_code in (429, 503))
    return answer.json()["error"]
