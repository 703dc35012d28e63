"""Whether the service lives, whether it is ready, and what Prometheus sees."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from service.endpoints.services import ApiServices, services
from service.errors import Code, ServiceError
from service.observability.exposition import CONTENT_TYPE_LATEST, generate_latest


async def get_live(_: Request) -> Response:
    return PlainTextResponse("\n")


def get_ready(request: Request) -> Response:
    check_ready(services(request))
    return PlainTextResponse("\n")


def check_ready(api: ApiServices) -> None:
    """Raises ServiceError ``not_ready`` with what does not answer. Whatever is not named answers all the same."""
    reasons = api.unready()
    if reasons:
        raise ServiceError(Code.NOT_READY, "; ".join(reasons.values()), components=reasons)


def get_metrics(request: Request) -> Response:
    return Response(generate_latest(services(request).metrics), media_type=CONTENT_TYPE_LATEST)
