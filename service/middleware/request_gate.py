"""The outermost layer: what every request and answer has in common.

Only known routes pass, for who may call them; bodies are JSON and of bounded size; every error, ours or the
framework's, leaves in the one envelope; every answer carries X-Request-ID; every request is counted, timed and logged
in one line without its content.
"""

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.auth.admission import Admission, audit
from service.endpoint import JSON, Endpoint
from service.endpoints.routes import is_inference_protocol, match
from service.errors import Code, ServiceError, from_status, invalid
from service.middleware.body_limits import BodyLimits, RequestBody
from service.middleware.security_headers import is_foreign_origin, names_this_machine
from service.observability import metrics, tracing
from service.observability.logs import LOGGER
from service.request_context import CALL, Call
from service.responses import error_response
from service.settings import Settings

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ELSEWHERE = "other"  # the label of every path and method that does not exist
FILES_AT_ONCE = 2  # of the largest size that may be on their way to the disk
KEPT = 65536  # bytes of a framework's error that are read
LONGEST_ADDRESS = 64  # characters of what a proxy says that an address is


class RequestGate:
    """ASGI middleware around the whole service."""

    def __init__(self, app: ASGIApp) -> None:
        settings = Settings.load()
        self._app, self._log, self._origins = app, settings.access_log, settings.cors_origins
        self._admission = Admission(settings)
        self._metrics_elsewhere = settings.metrics_port > 0
        self._unguarded = self._admission.keys is None and not settings.open
        whole = settings.max_bodies  # of all processes; one body must fit, if it is no more
        together = max(min(settings.max_body, whole), settings.share(whole))
        self._bodies = BodyLimits(settings.max_body, together, settings.body_seconds)
        self._files = BodyLimits(settings.max_upload, FILES_AT_ONCE * settings.max_upload, settings.body_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        scope = _without_slash(scope)
        matches = match(scope["path"])
        endpoint = matches.get("GET" if scope["method"] == "HEAD" else scope["method"])
        body = RequestBody(receive, self._bodies, Headers(scope=scope))
        call = _call(scope, next(iter(matches.values())).path if matches else ELSEWHERE, body)
        token = CALL.set(call)
        tracing.describe(call.method, call.route, call.request_id)  # before the answer: its end is the span's
        answer = _Answer(call, scope, body, send, partial(self._account, call, started))
        try:
            call = self._admit(call, matches, endpoint, body)
            CALL.set(call)
            await self._app(scope, body, answer.send)
        except Exception as error:
            await answer.error(error)
        finally:
            body.close()
            self._admission.leave(call)
            if call.notes.audit is not None and endpoint is not None:
                audit(call.notes.audit, call, path=scope["path"][:200], status=answer.status)
            CALL.reset(token)
            answer.account()

    def _admit(self, call: Call, matches: Mapping[str, Endpoint], endpoint: Endpoint | None, body: RequestBody) -> Call:
        """The call with who makes it. Raises ServiceError where the request does not get in."""
        if not matches or (self._metrics_elsewhere and call.route == "/metrics"):
            raise ServiceError(Code.NOT_FOUND, "no such path; GET /openapi.json lists all there are")
        if endpoint is None:
            known = sorted(matches)
            message = f"this path knows {' and '.join(known)}"
            raise ServiceError(Code.METHOD_NOT_ALLOWED, message, headers={"Allow": ", ".join(known)})
        if self._unguarded and not names_this_machine(call.headers.get("host", "localhost")):
            message = "without keys only this machine's own names are answered: its address, or localhost"
            raise ServiceError(Code.FORBIDDEN, message, field="Host")
        call = self._admission.admit(call, endpoint)
        if is_foreign_origin(endpoint.method, call.headers, self._origins):
            message = "pages of this origin may not ask; GAUNTLET_CORS_ORIGINS lists those that may"
            raise ServiceError(Code.FORBIDDEN, message, field="Origin")
        self._check_body(call, endpoint, body)
        return call

    def _check_body(self, call: Call, endpoint: Endpoint, body: RequestBody) -> None:
        """Before any of it has come. Raises ServiceError."""
        file = endpoint.consumes != JSON
        (self._files if file else self._bodies).check(body.length, coming=body.length)
        media = call.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        if endpoint.body is not None and media not in endpoint.media_in:
            message = f"send Content-Type: {' or '.join(endpoint.media_in)}, not {media[:100]}"
            raise ServiceError(Code.UNSUPPORTED_MEDIA_TYPE, message)
        json = media == JSON and not call.inference_protocol  # what /v2 is sent may be followed by bytes
        body.expect(json=json, encoding=call.headers.get("content-encoding", ""))
        if file:
            body.pass_on(self._files)

    def _account(self, call: Call, started: float, status: int) -> None:
        route, method, seconds = call.notes.metrics_label or call.route, call.method, time.perf_counter() - started
        metrics.REQUESTS.labels(route, method, str(status)).inc()
        metrics.LATENCY.labels(route, method).observe(seconds)
        if self._log:
            ms = round(seconds * 1000, 1)
            fields = {"request_id": call.request_id, "method": method, "route": route, "status": status, "ms": ms}
            LOGGER.info("%s %s %d %.1f ms id=%s", method, route, status, ms, call.request_id, extra={"fields": fields})


def _call(scope: Scope, route: str, body: RequestBody) -> Call:
    headers = Headers(scope=scope)
    given = headers.get("x-request-id", "")
    return Call(
        request_id=given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex,
        method=scope["method"] if scope["method"] in METHODS else ELSEWHERE,
        route=route,
        target=_target(scope),
        client=(scope.get("client") or ("",))[0][:LONGEST_ADDRESS],
        headers=headers,
        inference_protocol=is_inference_protocol(scope["path"]),
        disconnected=body.disconnected,
        body=body.received,
    )


def _target(scope: Scope) -> str:
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    query = scope.get("query_string", b"")
    return (path + b"?" + query if query else path).decode("latin-1")


def _without_slash(scope: Scope) -> Scope:
    """A path with a slash at its end means the one without. One that is part of a name is sent as %2F."""
    path = scope["path"]
    ends = path.endswith("/") and scope.get("raw_path", b"/").endswith(b"/")
    if not ends or path == "/":
        return scope
    return {**scope, "path": path[:-1], "raw_path": scope.get("raw_path", quote(path).encode())[:-1]}


class _Answer:
    """The answer on its way out: stamped, and turned into the envelope where it is somebody else's error.

    It is counted and logged just before its end is sent: who has an answer finds it in the metrics.
    """

    def __init__(self, call: Call, scope: Scope, body: RequestBody, send: Send, account: Callable[[int], None]) -> None:
        self._call, self._scope, self._body, self._send, self._account = call, scope, body, send, account
        self.status = 500
        self._started = self._accounted = False
        self._foreign: bytearray | None = None  # the body of an error that is not in our envelope
        self._foreign_status = 500

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400 and not self._call.notes.error_is_ours:
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
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._call.request_id
            if self._body.endless:
                headers["Connection"] = "close"
        elif not message.get("more_body", False) and not self._body.whole:
            await self._send({**message, "more_body": True})
            await self._body.discard()  # the server receives nothing any more once it knows that this was all
            message = {"type": "http.response.body"}
        if message["type"] != "http.response.start" and not message.get("more_body", False):
            self.account()
        await self._send(message)

    def account(self) -> None:
        """Once, whether it came to its end or not."""
        if not self._accounted:
            self._accounted = True
            self._account(self.status)

    async def error(self, error: Exception) -> None:
        """Send the envelope, unless something has been sent already. A body that was refused is why all else failed."""
        if not self._started:
            await error_response(self._body.refusal or error)(self._scope, self._body, self._pass)


def _understand(status: int, body: bytes) -> ServiceError:
    """A framework's error. BentoML's validation errors keep what they say of the fields."""
    try:
        problems: Any = json.loads(body)["detail"]
        if problems[0]["type"] == "json_invalid":
            return ServiceError(Code.MALFORMED, f"the body is not JSON: {problems[0]['msg']}")
        return invalid(problems)
    except (ValueError, TypeError, KeyError, IndexError):
        return from_status(status)
