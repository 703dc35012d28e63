"""The outermost layer: what every request and answer has in common.

Only known routes pass, for who may call them; bodies are JSON and of bounded size; every error, ours or the
framework's, leaves in the one envelope; every answer carries X-Request-ID; every request is counted, timed and logged
in one line without its content.
"""

import json
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import scopes
from service.errors import CALL, Call, Code, ServiceError, from_status, invalid, respond, translate
from service.http import routes
from service.http.body import Bodies, Body
from service.http.headers import foreign, own
from service.http.values import Values
from service.settings import Settings
from service.watch import metrics, tracing
from service.watch.logs import LOGGER

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ELSEWHERE = "other"  # the label of every path and method that does not exist
KEPT = 65536  # bytes of a framework's error that are read


class Border:
    """ASGI middleware around the whole service."""

    def __init__(self, app: ASGIApp) -> None:
        settings = Settings.load()
        self._app, self._log, self._origins = app, settings.access_log, settings.cors_origins
        self._access = scopes.Access(settings)
        self._unguarded = self._access.keys is None and not settings.open
        self._bodies = Bodies(settings.max_body, settings.max_bodies, settings.body_seconds)
        for route in routes.ROUTES:  # a rate cannot tell the first of its kind from a series that is merely new
            metrics.REQUESTS.labels(route.path, route.method, "500")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        call = Call(given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex, headers, oip=routes.oip(scope["path"]))
        token = CALL.set(call)
        started = time.perf_counter()
        matches = routes.match(scope["path"])
        wanted = matches.get("GET" if scope["method"] == "HEAD" else scope["method"])
        route = next(iter(matches.values())).path if matches else ELSEWHERE
        method = scope["method"] if scope["method"] in METHODS else ELSEWHERE
        tracing.describe(method, route, call.request_id)  # before the answer: its end is the span's
        host = (scope.get("client") or ("",))[0]
        body = Body(receive, self._bodies)
        call.gone = body.gone
        answer = _Answer(call, scope, body, send)
        try:
            self._admit(call, matches, wanted, host, body)
            await self._app(scope, body, answer.send)
        except Exception as error:
            if translate(error).code is Code.INTERNAL:
                LOGGER.exception("request %s failed", call.request_id)
            await answer.error(error)
        finally:
            body.close()
            if call.admin and wanted is not None:
                scopes.note("admin", call, wanted, host, path=scope["path"][:200], status=answer.status)
            CALL.reset(token)
            self._account(call.label or route, method, answer.status, time.perf_counter() - started, call.request_id)

    def _admit(
        self, call: Call, matches: Mapping[str, routes.Route], wanted: routes.Route | None, host: str, body: Body
    ) -> None:
        """Raises ServiceError where the request does not get in."""
        if not matches:
            raise ServiceError(Code.NOT_FOUND, "no such path; GET /openapi.json lists all there are")
        if wanted is None:
            known = sorted(matches)
            message = f"this path knows {' and '.join(known)}"
            raise ServiceError(Code.METHOD_NOT_ALLOWED, message, headers={"Allow": ", ".join(known)})
        if self._unguarded and not own(call.headers.get("host", "localhost")):
            message = "without keys only this machine's own names are answered: its address, or localhost"
            raise ServiceError(Code.FORBIDDEN, message, field="Host")
        self._access.admit(call, wanted, host)
        if foreign(wanted.method, call.headers, self._origins):
            message = "pages of this origin may not ask; GAUNTLET_CORS_ORIGINS lists those that may"
            raise ServiceError(Code.FORBIDDEN, message, field="Origin")
        length = call.headers.get("content-length", "0")
        size = int(length) if length.isdecimal() else 0
        self._bodies.check(size, coming=size)
        media = call.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if wanted.body is not None and media not in wanted.media_in:
            message = f"send Content-Type: {' or '.join(wanted.media_in)}, not {media[:100]}"
            raise ServiceError(Code.UNSUPPORTED_MEDIA_TYPE, message)
        if media == "application/json" and not call.oip:  # what /v2 is sent may be bytes, or compressed
            body.values = Values()

    def _account(self, route: str, method: str, status: int, seconds: float, request_id: str) -> None:
        metrics.REQUESTS.labels(route, method, str(status)).inc()
        metrics.LATENCY.labels(route, method).observe(seconds)
        if self._log:
            ms = round(seconds * 1000, 1)
            fields = {"request_id": request_id, "method": method, "route": route, "status": status, "ms": ms}
            LOGGER.info("%s %s %d %.1f ms id=%s", method, route, status, ms, request_id, extra={"fields": fields})


class _Answer:
    """The answer on its way out: stamped, and turned into the envelope where it is somebody else's error."""

    def __init__(self, call: Call, scope: Scope, body: Body, send: Send) -> None:
        self._call, self._scope, self._body, self._send = call, scope, body, send
        self.status = 500
        self._started = False
        self._foreign: bytearray | None = None  # the body of an error that is not in our envelope
        self._foreign_status = 500

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400 and not self._call.answered:
            self._foreign, self._foreign_status = bytearray(), message["status"]
        elif self._foreign is None:
            await self._pass(message)
        elif message["type"] == "http.response.body":
            if len(self._foreign) < KEPT:
                self._foreign += message.get("body", b"")
            if not message.get("more_body", False):
                await self.error(_understand(self._foreign_status, bytes(self._foreign)))

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started, self.status = True, message["status"]
            MutableHeaders(scope=message)["X-Request-ID"] = self._call.request_id
        await self._send(message)

    async def error(self, error: Exception) -> None:
        """Send the envelope, unless something has been sent already. A body that was refused is why all else failed."""
        if not self._started:
            await respond(self._body.refusal or error)(self._scope, self._body, self._pass)


def _understand(status: int, body: bytes) -> ServiceError:
    """A framework's error. BentoML's validation errors keep what they say of the fields."""
    try:
        problems: Any = json.loads(body)["detail"]
        if problems[0]["type"] == "json_invalid":
            return ServiceError(Code.MALFORMED, f"the body is not JSON: {problems[0]['msg']}")
        return invalid(problems)
    except (ValueError, TypeError, KeyError, IndexError):
        return from_status(status)
