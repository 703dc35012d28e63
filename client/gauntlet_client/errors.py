"""What can go wrong, in words."""

from typing import Any

import httpx
from pydantic import ValidationError

from gauntlet_client.answers import Envelope, ModelOpening, ReportStatus


class ClientError(Exception):
    """Base of all errors of this client. Raised as it is when the service cannot be reached or does not answer."""


class ServiceError(ClientError):
    """The service refused, and said why.

    Attributes:
        status: of the HTTP answer.
        code: one of a closed set, to switch on: ``unknown_model``, ``invalid``, ``too_busy``...
        details: more about it; ``details["field"]`` names the part of the request that is wrong.
        request_id: finds it in the service's log.
    """

    def __init__(self, status: int, code: str, message: str, details: dict[str, Any], request_id: str) -> None:
        super().__init__(f"{message} ({code}, request {request_id})")
        self.status, self.code, self.message = status, code, message
        self.details, self.request_id = details, request_id

    @property
    def field(self) -> str | None:
        """The part of the request that is wrong, as ``images.3``."""
        return self.details.get("field")


class ReportNotDone(ClientError):
    """A report ended without a result, or has not ended in time. ``report`` says where it stands."""

    def __init__(self, report: ReportStatus, reason: str) -> None:
        super().__init__(f"report {report.id} {reason}")
        self.report = report


class ModelNotReady(ClientError):
    """An uploaded model was refused, or has not been opened in time. ``opening`` says where it stands, and why."""

    def __init__(self, opening: ModelOpening, reason: str) -> None:
        super().__init__(f"model {opening.name} {reason}")
        self.opening = opening


def refusal(answer: httpx.Response) -> ServiceError:
    """The error of a 4xx or 5xx; something else on the way may have answered, in words of its own."""
    try:
        error = Envelope.model_validate_json(answer.content).error
    except ValidationError:
        return ServiceError(answer.status_code, "", answer.reason_phrase or "no reason given", {}, "unknown")
    return ServiceError(answer.status_code, error.code, error.message, error.details or {}, error.request_id)
