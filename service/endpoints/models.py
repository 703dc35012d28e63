"""Models: listed and shown. The compute process takes new ones in and deletes them."""

from starlette.requests import Request
from starlette.responses import Response

from service.endpoints.services import services
from service.responses import json_response
from service.schemas.main_calls import ModelList


def list_models(request: Request) -> Response:
    catalog = services(request).catalog
    catalog.refresh()
    return json_response(ModelList(models=catalog.manifests()))


def get_model(request: Request) -> Response:
    catalog = services(request).catalog
    catalog.refresh()
    return json_response(catalog.manifest(request.path_params["name"], "name"))
