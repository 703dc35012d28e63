"""The endpoints of the Open Inference Protocol."""

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from gauntlet.artifacts.manifest import GeneratorManifest
from gauntlet.version import __version__
from service.endpoints.predictions import check_uploaded
from service.endpoints.services import ApiServices, services
from service.errors import Code, ServiceError
from service.inference_protocol.http import infer_call, infer_response
from service.inference_protocol.inference import infer
from service.inference_protocol.message import read
from service.inference_protocol.metadata import AnyManifest, check_version, describe
from service.inference_protocol.repository_index import repository_index
from service.inference_protocol.schemas import (
    IndexRequest,
    ModelReady,
    RepositoryIndex,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from service.responses import json_response

EXTENSIONS = ["binary_tensor_data", "model_repository", "model_repository(unload_dependents)"]


def _manifest(request: Request) -> AnyManifest:
    catalog = services(request).catalog
    catalog.refresh()
    manifest = catalog.manifest(request.path_params["name"], "name")
    check_version(manifest, request.path_params.get("version"))
    return manifest


def get_server(_: Request) -> Response:
    return json_response(ServerMetadata(name="gauntlet", version=__version__, extensions=EXTENSIONS))


async def get_live(_: Request) -> Response:
    return json_response(ServerLive(live=True))


async def get_ready(request: Request) -> Response:
    """Once models answer; otherwise ``not_ready``. Reports, of which /readyz tells, are none of its business."""
    if services(request).models.not_ready():
        raise ServiceError(Code.NOT_READY, "certificates of models are being proved")
    return json_response(ServerReady(ready=True))


def get_model(request: Request) -> Response:
    return json_response(describe(_manifest(request)))


def get_model_ready(request: Request) -> Response:
    name = _manifest(request).name
    if name in services(request).models.not_ready():
        raise ServiceError(Code.NOT_READY, f"the certificate of {name} is being proved")
    return json_response(ModelReady(name=name, ready=True))


async def infer_endpoint(request: Request) -> Response:
    """Of a model that came with the service: here. Of an uploaded one: in the compute process."""
    api, name = services(request), request.path_params["name"]
    api.catalog.refresh()
    body = await request.body()
    if name not in api.catalog.shipped:
        await check_uploaded(api, name, None)
        return await api.compute.forward(body)
    await api.models.wait_open(name)
    call = infer_call(request, body, api.settings)
    generator = isinstance(api.catalog.shipped[name], GeneratorManifest)
    queue = api.generations if generator else api.predictions
    return infer_response(await queue.run(lambda: infer(api.models.get(name), call)))


async def get_index(request: Request) -> Response:
    asked = read(IndexRequest, await request.body() or b"{}")
    return json_response(await anyio.to_thread.run_sync(_index, services(request), asked.ready))


def _index(api: ApiServices, ready: bool) -> RepositoryIndex:
    api.catalog.refresh()
    return repository_index(api.catalog, ready=ready)
