"""The outermost layer: what every request and answer has in common.

Only known routes pass; bodies are JSON and of bounded size; every error, ours or the framework's, leaves in the one
envelope; every answer carries X-Request-ID; every request is counted, timed and logged in one line without its content.
"""

import json
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import metrics, routes, tracing
from service.errors import CALL, Call, Code, ServiceError, from_status, invalid, respond, translate
from service.logs import LOGGER
from service.settings import Settings

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ELSEWHERE = "other"  # the label of every path and method that does not exist
KEPT = 65536  # bytes of a framework's error that are read


class Border:
    """ASGI middleware around the whole service."""

    def __init__(self, app: ASGIApp) -> None:
        settings = Settings.load()
        self._app, self._max_body, self._log = app, settings.max_body, settings.access_log
        for route in routes.ROUTES:  # a rate cannot tell the first of its kind from a series that is merely new
            metrics.REQUESTS.labels(route.path, route.method, "500")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        call = Call(given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex, headers)
        token = CALL.set(call)
        started = time.perf_counter()
        matches = routes.match(scope["path"])
        route = next(iter(matches.values())).path if matches else ELSEWHERE
        method = scope["method"] if scope["method"] in METHODS else ELSEWHERE
        tracing.describe(method, route, call.request_id)  # before the answer: its end is the span's
        answer = _Answer(call, scope, receive, send)
        try:
            refusal = self._refusal(scope, headers, matches)
            if refusal is not None:
                allow = {"Allow": ", ".join(sorted(matches))} if refusal.code is Code.METHOD_NOT_ALLOWED else {}
                await answer.error(refusal, allow)
            else:
                await self._app(scope, _Body(receive, self._max_body, answer), answer.send)
        except Exception as error:
            if translate(error).code is Code.INTERNAL:
                LOGGER.exception("request %s failed", call.request_id)
            await answer.error(error)
        finally:
            CALL.reset(token)
            self._account(route, method, answer.status, time.perf_counter() - started, call.request_id)

    def _refusal(self, scope: Scope, headers: Headers, matches: dict[str, routes.Route]) -> ServiceError | None:
        """Why the request does not get in, if it does not."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if not matches:
            return ServiceError(Code.NOT_FOUND, "no such path; GET /openapi.json lists all there are")
        if method not in matches:
            return ServiceError(Code.METHOD_NOT_ALLOWED, f"this path knows {' and '.join(sorted(matches))}")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_body:
            return _too_large(self._max_body)
        media = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        wanted = matches[method].consumes
        if matches[method].body is not None and media != wanted:
            return ServiceError(Code.UNSUPPORTED_MEDIA_TYPE, f"send Content-Type: {wanted}, not {media[:100]}")
        return None

    def _account(self, route: str, method: str, status: int, seconds: float, request_id: str) -> None:
        metrics.REQUESTS.labels(route, method, str(status)).inc()
        metrics.LATENCY.labels(route, method).observe(seconds)
        if self._log:
            ms = round(seconds * 1000, 1)
            fields = {"request_id": request_id, "method": method, "route": route, "status": status, "ms": ms}
            LOGGER.info("%s %s %d %.1f ms id=%s", method, route, status, ms, request_id, extra={"fields": fields})


def _too_large(limit: int) -> ServiceError:
    return ServiceError(Code.TOO_LARGE, f"the body may have {limit} bytes", limit=limit)


class _Body:
    """The request body, cut off where it grows too large without having said so."""

    def __init__(self, receive: Receive, limit: int, answer: "_Answer") -> None:
        self._receive, self._limit, self._answer = receive, limit, answer
        self._size = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > self._limit:
            self._answer.refusal = _too_large(self._limit)  # the framework would make a 500 of what is raised
            raise self._answer.refusal
        return message


class _Answer:
    """The answer on its way out: stamped, and turned into the envelope where it is somebody else's error."""

    def __init__(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        self._call, self._scope, self._receive, self._send = call, scope, receive, send
        self.status = 500
        self.refusal: ServiceError | None = None
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
                await self.error(self.refusal or _understand(self._foreign_status, bytes(self._foreign)))

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started, self.status = True, message["status"]
            MutableHeaders(scope=message)["X-Request-ID"] = self._call.request_id
        await self._send(message)

    async def error(self, error: Exception, headers: dict[str, str] | None = None) -> None:
        """Send the envelope, unless something has been sent already."""
        if self._started:
            return
        response = respond(self.refusal or error)
        response.headers.update(headers or {})
        await response(self._scope, self._receive, self._pass)


def _understand(status: int, body: bytes) -> ServiceError:
    """A framework's error. BentoML's validation errors keep what they say of the fields."""
    try:
        problems: Any = json.loads(body)["detail"]
        if problems[0]["type"] == "json_invalid":
            return ServiceError(Code.MALFORMED, f"the body is not JSON: {problems[0]['msg']}")
        return invalid(problems)
    except (ValueError, TypeError, KeyError, IndexError):
        return from_status(status)
