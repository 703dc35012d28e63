"""Errors as the service tells them: one closed set of codes, one envelope.

``{"error": {"code", "message", "details", "request_id"}}`` for every 4xx and 5xx, whoever raised it; under /v2 the
protocol has a shape of its own, ``{"error": message}``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from gauntlet.errors import DeadlineExceeded, InvalidInput, ModelFailed

if TYPE_CHECKING:
    from service.access.keys import Key


class Code(StrEnum):
    """Every ``error.code`` there is; a client may switch on them."""

    MALFORMED = "malformed"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_ATTACK = "unknown_attack"
    UNKNOWN_DATASET = "unknown_dataset"
    UNKNOWN_REPORT = "unknown_report"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BODY_TOO_SLOW = "body_too_slow"
    REPORT_ACTIVE = "report_active"
    REPORT_ENDED = "report_ended"
    REPORT_NOT_READY = "report_not_ready"
    NAME_TAKEN = "name_taken"
    IN_USE = "in_use"
    BUILT_IN = "built_in"
    UPLOADS_FULL = "uploads_full"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    INVALID = "invalid"
    WRONG_KIND = "wrong_kind"
    TOO_EXPENSIVE = "too_expensive"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    TOO_BUSY = "too_busy"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
    CLIENT_GONE = "client_gone"  # for the log: nobody is there to read it
    INTERNAL = "internal"
    NOT_READY = "not_ready"
    MODEL_FAILED = "model_failed"
    OVERLOADED = "overloaded"
    JOBS_UNAVAILABLE = "jobs_unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"


STATUS: Mapping[Code, int] = {
    Code.MALFORMED: 400,
    Code.UNAUTHENTICATED: 401,
    Code.FORBIDDEN: 403,
    Code.NOT_FOUND: 404,
    Code.UNKNOWN_MODEL: 404,
    Code.UNKNOWN_ATTACK: 404,
    Code.UNKNOWN_DATASET: 404,
    Code.UNKNOWN_REPORT: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.BODY_TOO_SLOW: 408,
    Code.REPORT_ACTIVE: 409,
    Code.REPORT_ENDED: 409,
    Code.REPORT_NOT_READY: 409,
    Code.NAME_TAKEN: 409,
    Code.IN_USE: 409,
    Code.BUILT_IN: 409,
    Code.UPLOADS_FULL: 409,
    Code.TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.INVALID: 422,
    Code.WRONG_KIND: 422,
    Code.TOO_EXPENSIVE: 422,
    Code.IDEMPOTENCY_MISMATCH: 422,
    Code.TOO_BUSY: 429,
    Code.RATE_LIMITED: 429,
    Code.QUOTA_EXCEEDED: 429,
    Code.CLIENT_GONE: 499,
    Code.INTERNAL: 500,
    Code.NOT_READY: 503,
    Code.MODEL_FAILED: 503,
    Code.OVERLOADED: 503,
    Code.JOBS_UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
RETRY_AFTER = {429: 5, 503: 2}  # seconds, by status, where nothing better is known


class ServiceError(Exception):
    """An answer that is an error. ``field`` names the part of the request that is wrong, as ``images.3``."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers or {}
        self.details = {**({} if field is None else {"field": field}), **details}

    @property
    def status(self) -> int:
        return STATUS[self.code]


async def never() -> None:
    """Does not return."""
    await asyncio.get_running_loop().create_future()


NO_REQUEST = "none"
"""The id of what is not said in answer to a request."""


@dataclass
class Call:
    """What is known of the request being answered; one per request, found through ``CALL``."""

    request_id: str = NO_REQUEST
    headers: Headers = field(default_factory=Headers)
    answered: bool = False  # an envelope of ours is on its way
    oip: bool = False  # errors in the words of the Open Inference Protocol
    key: "Key | None" = None  # that it was asked with
    admin: bool = False  # the scope admin was needed
    label: str | None = None  # the route's in metrics, where its template does not tell work of another kind
    gone: Callable[[], Awaitable[None]] = never  # returns once the client has hung up


CALL: ContextVar[Call] = ContextVar("CALL", default=Call())  # noqa: B039  every request sets its own


def respond(error: Exception) -> JSONResponse:
    """The envelope for an exception; anything unforeseen becomes a plain 500."""
    known = translate(error)
    call = CALL.get()
    call.answered = True
    wait = RETRY_AFTER.get(known.status)
    headers = {**({} if wait is None else {"Retry-After": str(wait)}), **known.headers}
    if call.oip:
        return JSONResponse({"error": str(known)}, status_code=known.status, headers=headers)
    body = {
        "code": known.code,
        "message": str(known),
        "details": known.details or None,
        "request_id": call.request_id,
    }
    return JSONResponse({"error": body}, status_code=known.status, headers=headers)


def translate(error: Exception) -> ServiceError:
    """The service's word for an exception of the domain."""
    match error:
        case ServiceError():
            return error
        case InvalidInput():
            return ServiceError(Code.INVALID, str(error), field=error.field)
        case ModelFailed():
            return ServiceError(Code.MODEL_FAILED, str(error))
        case DeadlineExceeded():
            return ServiceError(Code.DEADLINE_EXCEEDED, str(error))
        case _:
            return ServiceError(Code.INTERNAL, "an unexpected error; the service's log has it under this request id")


def invalid(problems: Iterable[Mapping[str, Any]]) -> ServiceError:
    """For pydantic's list of what is wrong: the first by name, ten of them in the details."""
    listed = [
        {
            "field": ".".join(str(part) for part in problem["loc"]) or None,
            "message": str(problem["msg"]).removeprefix("Value error, "),
        }
        for problem in problems
        if problem["type"] != "default_factory_not_called"  # what it would have been made from is in the list too
    ]
    first = listed[0]
    where = f"{first['field']}: " if first["field"] else ""
    return ServiceError(Code.INVALID, f"{where}{first['message']}", field=first["field"], problems=listed[:10])


def from_status(status: int) -> ServiceError:
    """For an error of the framework that carries nothing but its status."""
    codes = {code_status: code for code, code_status in STATUS.items()}
    generic = {
        404: Code.NOT_FOUND,
        409: Code.REPORT_ACTIVE,
        422: Code.INVALID,
        429: Code.TOO_BUSY,
        503: Code.NOT_READY,
    }
    code = generic.get(status) or codes.get(status) or (Code.MALFORMED if status < 500 else Code.INTERNAL)
    return ServiceError(code, HTTPStatus(STATUS[code]).phrase.lower())
