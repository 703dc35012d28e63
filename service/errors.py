"""Errors of the service: one closed set of codes, each with its HTTP status. service.responses makes the answers."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from starlette.requests import ClientDisconnect

from gauntlet.errors import DeadlineExceeded, InvalidInput, ModelFailed, escaped


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
    REPORT_OUTDATED = "report_outdated"
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
    STORE_UNAVAILABLE = "store_unavailable"
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
    Code.REPORT_OUTDATED: 409,
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
    Code.STORE_UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


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
        super().__init__(escaped(message))
        self.code = code
        self.headers = headers or {}
        self.details = {**({} if field is None else {"field": field}), **details}

    @property
    def status(self) -> int:
        return STATUS[self.code]


def translate(error: Exception) -> ServiceError:
    """The service's word for an exception of the domain or the framework."""
    match error:
        case ServiceError():
            return error
        case InvalidInput():
            return ServiceError(Code.INVALID, str(error), field=error.field)
        case ModelFailed():
            return ServiceError(Code.MODEL_FAILED, str(error))
        case DeadlineExceeded():
            return ServiceError(Code.DEADLINE_EXCEEDED, str(error))
        case ClientDisconnect():
            return ServiceError(Code.CLIENT_GONE, "the client has hung up")
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
