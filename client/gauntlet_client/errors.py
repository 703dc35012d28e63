"""The exceptions of the client."""

from typing import Any

import httpx
from pydantic import ValidationError

from gauntlet_client.answers import Envelope, ModelOpening, ReportStatus


class ClientError(Exception):
    """Base of all errors of this client. Raised itself if the service cannot be reached or does not answer."""


class ServiceError(ClientError):
    """The service answered with an error.

    Attributes:
        status: HTTP status.
        code: one of a closed set, for programs: ``unknown_model``, ``invalid``, ``too_busy``...
        details: further information; ``details["field"]`` names the part of the request that is wrong.
        request_id: identifies the request in the service's log.
    """

    def __init__(self, status: int, code: str, message: str, details: dict[str, Any], request_id: str) -> None:
        super().__init__(f"{message} ({code}, request {request_id})")
        self.status, self.code, self.message = status, code, message
        self.details, self.request_id = details, request_id

    @property
    def field(self) -> str | None:
        """The part of the request that is wrong, for example ``images.3``."""
        return self.details.get("field")


class ReportNotDone(ClientError):
    """A report ended without a result, or has not ended in time. ``report`` is its last status."""

    def __init__(self, report: ReportStatus, reason: str) -> None:
        super().__init__(f"report {report.id} {reason}")
        self.report = report


class ModelNotReady(ClientError):
    """An uploaded model was refused, or has not been opened in time. ``opening`` is its last status and the reason."""

    def __init__(self, opening: ModelOpening, reason: str) -> None:
        super().__init__(f"model {opening.name} {reason}")
        self.opening = opening


def refusal(answer: httpx.Response) -> ServiceError:
    """Return the error of a 4xx or 5xx answer, which may come from a proxy and then has another format."""
    try:
        error = Envelope.model_validate_json(answer.content).error
    except ValidationError:
        return ServiceError(answer.status_code, "", answer.reason_phrase or "no reason given", {}, "unknown")
    return ServiceError(answer.status_code, error.code, error.message, error.details or {}, error.request_id)
