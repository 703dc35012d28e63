"""Evaluation sets: listed, shown, deleted. The compute process takes new ones in."""

from starlette.requests import Request
from starlette.responses import Response

from service.endpoints.services import ApiServices, services
from service.errors import Code, ServiceError
from service.responses import json_response
from service.schemas.evalset_info import evalset_info
from service.schemas.reading import read_query
from service.schemas.uploads import EvalSetInfo, EvalSetList, SamplesQuery
from service.uploads.evalset_previews import EvalSetPreview


def list_evalsets(request: Request) -> Response:
    api, samples = services(request), _samples(request)
    return json_response(EvalSetList(evalsets=[_info(api, found, samples) for found in api.evalsets.usable()]))


def get_evalset(request: Request) -> Response:
    api = services(request)
    return json_response(_info(api, api.evalsets.get(request.path_params["name"], "name"), _samples(request)))


def delete_evalset(request: Request) -> Response:
    api, name = services(request), request.path_params["name"]
    sets = api.evalsets.sets
    sets.check(name, "name")
    if sets.is_shipped(name):
        raise ServiceError(Code.BUILT_IN, f"{name} came with the service and cannot be deleted", field="name")
    sets.check_removable(name)
    api.jobs.check_unused(f"evalsets/{name}")
    sets.remove(name)
    return Response(status_code=204)


def _samples(request: Request) -> int:
    return read_query(SamplesQuery, request.query_params).samples


def _info(api: ApiServices, found: EvalSetPreview, samples: int) -> EvalSetInfo:
    return evalset_info(found, samples, uploaded=not api.evalsets.sets.is_shipped(found.name))
