"""An inference call between HTTP and what is inferred."""

from starlette.requests import Request
from starlette.responses import Response

from service.endpoint import BINARY, JSON
from service.inference_protocol.inference import InferAnswer, InferCall
from service.inference_protocol.message import LENGTH
from service.settings import Settings


def infer_call(request: Request, body: bytes, settings: Settings) -> InferCall:
    headers = request.headers
    return InferCall(
        version=request.path_params.get("version"),
        body=body,
        length=headers.get(LENGTH),
        accepted=headers.get("accept-encoding", ""),
        max_images=settings.max_images,
    )


def infer_response(made: InferAnswer) -> Response:
    answer = Response(made.body, media_type=JSON if made.length is None else BINARY)
    if made.length is not None:
        answer.headers[LENGTH] = str(made.length)
    if made.encoding is not None:
        answer.headers["Content-Encoding"] = made.encoding
    return answer
