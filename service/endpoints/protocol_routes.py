"""The rows of the table of endpoints that the Open Inference Protocol asks for."""

from pydantic import BaseModel

from service.endpoint import COMMON_ERRORS, Endpoint, Handler, Method
from service.endpoints import inference_protocol as handlers
from service.endpoints.errors import BODY, JOBS, MODEL
from service.endpoints.forwarding import forward
from service.errors import Code
from service.inference_protocol import schemas
from service.request_context import Scope

MODEL_PATH = "/v2/models/{name}"
VERSION_PATH = f"{MODEL_PATH}/versions/{{version}}"
REPOSITORY = "/v2/repository"
STORED = f"{REPOSITORY}/models/{{name}}"

INDEXED = (*BODY, Code.JOBS_UNAVAILABLE)
LOADED = (
    *INDEXED,
    Code.UNKNOWN_MODEL,
    Code.IN_USE,
    Code.NAME_TAKEN,
    Code.UPLOADS_FULL,
    Code.MODEL_FAILED,
    Code.NOT_READY,
)


def _row(
    method: Method,
    path: str,
    scope: Scope | None,
    handler: Handler,
    summary: str,
    answer: type[BaseModel] | None,
    errors: tuple[Code, ...] = COMMON_ERRORS,
    body: type[BaseModel] | None = None,
    *,
    metered: bool = True,
) -> Endpoint:
    return Endpoint(
        method,
        path,
        scope,
        handler,
        summary,
        {200: answer},
        schemas.Failure,
        errors,
        body,
        binary=body is schemas.InferRequest,
        metered=metered,
    )


def _with_and_without_version(
    method: Method, end: str, handler: Handler, summary: str, answer: type[BaseModel], body: type[BaseModel] | None
) -> tuple[Endpoint, Endpoint]:
    errors = (*JOBS, Code.UNKNOWN_MODEL, Code.NOT_READY) if body is None else (*MODEL, Code.TOO_BUSY)
    one, other = (
        _row(method, f"{path}{end}", Scope.READ, handler, summary, answer, errors, body)
        for path in (MODEL_PATH, VERSION_PATH)
    )
    return one, other


PROTOCOL_ENDPOINTS: tuple[Endpoint, ...] = (
    *_with_and_without_version(
        "GET", "", handlers.get_model, "The model's input and outputs", schemas.ModelMetadata, None
    ),
    *_with_and_without_version(
        "GET", "/ready", handlers.get_model_ready, "Whether the model answers", schemas.ModelReady, None
    ),
    *_with_and_without_version(
        "POST",
        "/infer",
        handlers.infer_endpoint,
        "Classify or generate a batch, as JSON or bytes",
        schemas.InferResponse,
        schemas.InferRequest,
    ),
    _row("GET", "/v2", Scope.READ, handlers.get_server, "Open Inference Protocol: the server", schemas.ServerMetadata),
    _row("GET", "/v2/health/live", None, handlers.get_live, "Alive", schemas.ServerLive, metered=False),
    _row(
        "GET",
        "/v2/health/ready",
        None,
        handlers.get_ready,
        "Ready to answer",
        schemas.ServerReady,
        (*COMMON_ERRORS, Code.NOT_READY),
        metered=False,
    ),
    _row(
        "POST",
        f"{REPOSITORY}/index",
        Scope.READ,
        handlers.get_index,
        "Models, loaded or not",
        schemas.RepositoryIndex,
        INDEXED,
        schemas.IndexRequest,
    ),
    _row(
        "POST",
        f"{STORED}/unload",
        Scope.ADMIN,
        forward,
        "Take a model out of service",
        None,
        LOADED,
        schemas.RepositoryRequest,
    ),
    _row(
        "POST",
        f"{STORED}/load",
        Scope.ADMIN,
        forward,
        "Bring it back, or what is new of it",
        None,
        LOADED,
        schemas.RepositoryRequest,
    ),
)
