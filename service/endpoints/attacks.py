"""POST /attack, POST /certify and GET /attacks: all need the attacks, which only the compute process loads."""

from starlette.requests import Request
from starlette.responses import Response

from service.endpoint import JSON
from service.endpoints.services import ApiServices, services
from service.schemas.certify import CertifyRequest
from service.schemas.main_calls import AttackRequest
from service.schemas.reading import read_json


async def attack_endpoint(request: Request) -> Response:
    return await attack(services(request), read_json(AttackRequest, await request.body()))


async def attack(api: ApiServices, request: AttackRequest) -> Response:  # noqa: ARG001  valid, or it were not here
    return await api.compute.forward()


async def certify_endpoint(request: Request) -> Response:
    return await certify(services(request), read_json(CertifyRequest, await request.body()))


async def certify(api: ApiServices, request: CertifyRequest) -> Response:  # noqa: ARG001  valid, or it were not here
    return await api.compute.forward()


async def list_attacks(request: Request) -> Response:
    """The list is the same for as long as the service runs: one answer is kept."""
    state = request.app.state
    if not hasattr(state, "attacks"):
        answer = await services(request).compute.forward()
        if answer.status_code != 200 or request.method != "GET":
            return answer
        state.attacks = bytes(answer.body)
    return Response(state.attacks, media_type=JSON)
