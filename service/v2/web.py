"""The routes of the Open Inference Protocol."""

from typing import TYPE_CHECKING, TypeVar

import anyio.to_thread
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.http.openapi import release
from service.http.routes import BINARY, OIP, OIP_VERSION, STORED
from service.http.uploads import alone
from service.v2.message import LENGTH, read
from service.v2.metadata import AnyManifest, check_version, describe
from service.v2.schemas import (
    IndexRequest,
    ModelReady,
    RepositoryRequest,
    ServerLive,
    ServerMetadata,
    ServerReady,
)

if TYPE_CHECKING:
    from service.api import Gauntlet

B = TypeVar("B", bound=BaseModel)

EXTENSIONS = ["binary_tensor_data", "model_repository", "model_repository(unload_dependents)"]


def _service(request: Request) -> "Gauntlet":
    service: Gauntlet = request.app.state.service
    return service


def _manifest(request: Request) -> AnyManifest:
    manifest = _service(request).engine.manifest(request.path_params["name"], "name")
    check_version(manifest, request.path_params.get("version"))
    return manifest


def get_server(_: Request) -> Response:
    return _json(ServerMetadata(name="gauntlet", version=release(), extensions=EXTENSIONS))


async def get_live(_: Request) -> Response:
    return _json(ServerLive(live=True))


async def get_ready(_: Request) -> Response:
    """Whoever is asked has opened its models. Reports, of which /readyz tells, are none of the protocol's business."""
    return _json(ServerReady(ready=True))


def get_model(request: Request) -> Response:
    return _json(describe(_manifest(request)))


def get_model_ready(request: Request) -> Response:
    return _json(ModelReady(name=_manifest(request).name, ready=True))


async def infer(request: Request) -> Response:
    from service.v2 import infer as inference  # noqa: PLC0415  BentoML's parent imports this module without torch

    service, headers = _service(request), request.headers
    asked = inference.Request(
        name=request.path_params["name"],
        version=request.path_params.get("version"),
        body=await request.body(),
        length=headers.get(LENGTH),
        encoding=headers.get("content-encoding", ""),
        accepted=headers.get("accept-encoding", ""),
    )
    made = await service.lane(asked.name).run(lambda: inference.infer(service.engine, asked))
    answer = Response(made.body, media_type="application/json" if made.length is None else BINARY)
    if made.length is not None:
        answer.headers[LENGTH] = str(made.length)
    if made.encoding is not None:
        answer.headers["Content-Encoding"] = made.encoding
    return answer


async def get_index(request: Request) -> Response:
    from service.v2 import repository  # noqa: PLC0415  BentoML's parent imports this module without torch

    asked, engine = await _asked(request, IndexRequest), _service(request).engine
    return _json(await anyio.to_thread.run_sync(lambda: repository.index(engine, ready=asked.ready)))


async def load(request: Request) -> Response:
    from service.v2 import repository  # noqa: PLC0415  BentoML's parent imports this module without torch

    await _asked(request, RepositoryRequest)
    await alone(lambda: repository.load(_service(request).engine, request.path_params["name"]))
    return JSONResponse({})


async def unload(request: Request) -> Response:
    from service.v2 import repository  # noqa: PLC0415  BentoML's parent imports this module without torch

    await _asked(request, RepositoryRequest)
    await alone(lambda: repository.unload(_service(request).engine, request.path_params["name"]))
    return JSONResponse({})


async def _asked(request: Request, kind: type[B]) -> B:
    """A body that may be empty."""
    return read(kind, await request.body() or b"{}")


def _json(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


V2 = [
    Route("/v2", get_server),
    Route("/v2/health/live", get_live),
    Route("/v2/health/ready", get_ready),
    *(Route(path, get_model) for path in (OIP, OIP_VERSION)),
    *(Route(f"{path}/ready", get_model_ready) for path in (OIP, OIP_VERSION)),
    *(Route(f"{path}/infer", infer, methods=["POST"]) for path in (OIP, OIP_VERSION)),
    Route("/v2/repository/index", get_index, methods=["POST"]),
    Route(f"{STORED}/load", load, methods=["POST"]),
    Route(f"{STORED}/unload", unload, methods=["POST"]),
]
