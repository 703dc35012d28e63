"""What every answer says to browsers, and which other origins may ask at all."""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.content_policy import NOTHING
from service.settings import Settings

SECURITY: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": NOTHING,
    "Cache-Control": "no-store",  # an answer is for who holds the key
}
"""On every answer that does not say otherwise itself."""
RAW = [(name.lower().encode(), value.encode()) for name, value in SECURITY.items()]

ACCEPTED = (
    "Authorization",
    "X-API-Key",
    "Content-Encoding",
    "Content-Type",
    "Idempotency-Key",
    "Inference-Header-Content-Length",
    "X-Request-ID",
)
EXPOSED = ("Inference-Header-Content-Length", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class SecurityHeaders:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in RAW if pair[0] not in present)]
            await send(message)

        await self._app(scope, receive, stamped)


def cors(app: ASGIApp) -> ASGIApp:
    """Starlette's middleware for the origins of the settings, and nothing where there are none."""
    origins = Settings.load().cors_origins
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=ACCEPTED,
        expose_headers=EXPOSED,
    )


def is_foreign_origin(method: str, headers: Headers, allowed: tuple[str, ...]) -> bool:
    """Whether a page of another origin makes a browser change something here. CORS lets a form's post pass unasked."""
    origin = headers.get("origin")
    if origin is None or method in SAFE or "*" in allowed or origin in allowed:
        return False
    try:
        return urlsplit(origin).netloc != headers.get("host")
    except ValueError:
        return True


def names_this_machine(host: str) -> bool:
    """Whether a Host header names the machine that is asked, by its address or as localhost.

    A browser sends the name that a page was asked for. Whoever owns a name can let it lead to this machine (DNS
    rebinding), and then their page is of no other origin; they own neither addresses nor localhost.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return bool(ip_address(name))
    except ValueError:
        return False
