"""Answers as JSON. Every 4xx and 5xx is ``{"error": {"code", "message", "details", "request_id"}}``, whoever raised it.

Under /v2 the Open Inference Protocol has a shape of its own, ``{"error": message}``.
"""

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gauntlet.errors import GauntletError
from service.errors import Code, ServiceError, translate
from service.observability.logs import LOGGER
from service.request_context import CALL

RETRY_AFTER = {429: 5, 503: 2}  # seconds, by status, where nothing better is known


def error_response(error: Exception) -> JSONResponse:
    """The envelope of an exception. Anything unforeseen becomes a plain 500, and a traceback in the log."""
    known, call = translate(error), CALL.get()
    if known.code is Code.INTERNAL:
        LOGGER.error("request %s failed", call.request_id, exc_info=error)
    call.notes.error_is_ours = True
    wait = RETRY_AFTER.get(known.status)
    headers = {**({} if wait is None else {"Retry-After": str(wait)}), **known.headers}
    if call.inference_protocol:
        return JSONResponse({"error": str(known)}, status_code=known.status, headers=headers)
    body = {
        "code": known.code,
        "message": str(known),
        "details": known.details or None,
        "request_id": call.request_id,
    }
    return JSONResponse({"error": body}, status_code=known.status, headers=headers)


def _answer_error(_: Request, error: Exception) -> Response:
    return error_response(error)


ERROR_HANDLERS = dict.fromkeys((ServiceError, GauntletError, Exception), _answer_error)
"""Of a Starlette application. What only ``Exception`` matches is answered, and then raised again for the server."""


def json_response(model: BaseModel, status: int = 200, location: str | None = None) -> Response:
    """An answer made into bytes by its own model."""
    headers = {} if location is None else {"Location": location}
    return Response(model.model_dump_json(), status_code=status, media_type="application/json", headers=headers)
