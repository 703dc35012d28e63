"""Every route there is, once: what the border lets through, how metrics are labelled, what /openapi.json says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pydantic import BaseModel

from gauntlet.adopt.declared import Declared, DeclaredImages
from gauntlet.manifest import ClassifierManifest, GeneratorManifest
from gauntlet.report.schema import ReportRequest
from service.errors import Code
from service.http import brought, schemas
from service.v2 import schemas as v2

Method = Literal["GET", "POST", "DELETE"]

BINARY = "application/octet-stream"
READ = (Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED, Code.INTERNAL)
BODY = (*READ, Code.MALFORMED, Code.TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE, Code.INVALID)
MODEL = (*BODY, Code.UNKNOWN_MODEL, Code.WRONG_KIND, Code.MODEL_FAILED, Code.JOBS_UNAVAILABLE)
DEAR = (Code.TOO_EXPENSIVE, Code.TOO_BUSY, Code.DEADLINE_EXCEEDED)
JOBS = (*READ, Code.JOBS_UNAVAILABLE)


@dataclass(frozen=True)
class Route:
    """One path template with one method. An answer of None is a body without a schema, of the media type given."""

    method: Method
    path: str
    summary: str
    answers: Mapping[int, type[BaseModel] | tuple[type[BaseModel], ...] | None]
    errors: tuple[Code, ...] = READ
    body: type[BaseModel] | None = None
    media: str = "application/json"
    consumes: str = "application/json"  # multipart: a part `file`, and a part `settings` with the JSON of ``body``
    query: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()
    answer_headers: tuple[str, ...] = field(default=())
    failure: type[BaseModel] = schemas.Envelope
    binary: bool = False  # bytes may follow the JSON, both ways: then the media type is BINARY

    @property
    def media_in(self) -> tuple[str, ...]:
        """What the body may be."""
        return (self.consumes, BINARY) if self.binary else (self.consumes,)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(self.path)))

    @property
    def parameters(self) -> list[str]:
        """Names in the path."""
        return re.findall(r"\{(\w+)\}", self.path)


REPORT = "/robustness-report"
MULTIPART = "multipart/form-data"
UPLOAD = (*BODY, Code.NAME_TAKEN, Code.UPLOADS_FULL, Code.TOO_BUSY, Code.JOBS_UNAVAILABLE)
UNKNOWN = (*JOBS, Code.UNKNOWN_REPORT)
TEXT = "text/plain; charset=utf-8"
OIP = "/v2/models/{name}"
OIP_VERSION = f"{OIP}/versions/{{version}}"
STORED = "/v2/repository/models/{name}"
INDEXED = (*BODY, Code.JOBS_UNAVAILABLE)
LOADED = (*INDEXED, Code.UNKNOWN_MODEL, Code.IN_USE, Code.NAME_TAKEN, Code.UPLOADS_FULL, Code.MODEL_FAILED)


def _oip(
    method: Method,
    path: str,
    summary: str,
    answer: type[BaseModel] | None,
    errors: tuple[Code, ...] = READ,
    body: type[BaseModel] | None = None,
) -> Route:
    """One of the Open Inference Protocol's."""
    binary = body is v2.InferRequest
    return Route(method, path, summary, {200: answer}, errors, body, failure=v2.Failure, binary=binary)


def _both(
    method: Method, end: str, summary: str, answer: type[BaseModel], body: type[BaseModel] | None = None
) -> tuple[Route, Route]:
    """With and without a version."""
    errors = (*JOBS, Code.UNKNOWN_MODEL) if body is None else (*MODEL, Code.TOO_BUSY)
    one, other = (_oip(method, f"{path}{end}", summary, answer, errors, body) for path in (OIP, OIP_VERSION))
    return one, other


ROUTES: tuple[Route, ...] = (
    Route("GET", "/", "The page: everything here with the eyes", {200: None}, media="text/html"),
    Route("GET", "/static/{file}", "What the page is made of", {200: None}, media="*/*"),
    Route(
        "POST",
        "/classify",
        "Predict, with certificates; with `smoothing`, of the smoothed classifier",
        {200: schemas.ClassifyResponse},
        (*MODEL, *DEAR),
        schemas.ClassifyRequest,
    ),
    Route("POST", "/generate", "Draw images", {200: schemas.GenerateResponse}, MODEL, schemas.GenerateRequest),
    Route(
        "POST",
        "/attack",
        "Attack a classifier on given images",
        {200: schemas.AttackResponse},
        (*MODEL, Code.UNKNOWN_ATTACK, *DEAR),
        schemas.AttackRequest,
    ),
    Route(
        "POST",
        REPORT,
        "Ask for a robustness report; 200 is the answer to an Idempotency-Key already used with this body",
        {202: schemas.ReportAccepted, 200: schemas.ReportAccepted},
        (
            *MODEL,
            Code.UNKNOWN_ATTACK,
            Code.UNKNOWN_DATASET,
            Code.IDEMPOTENCY_MISMATCH,
            Code.TOO_BUSY,
        ),
        ReportRequest,
        headers=("Idempotency-Key",),
        answer_headers=("Location",),
    ),
    Route(
        "GET",
        REPORT,
        "List reports, newest first",
        {200: schemas.ReportList},
        (*JOBS, Code.INVALID),
        query=schemas.ReportQuery,
    ),
    Route("GET", f"{REPORT}/{{id}}", "A report and where it stands", {200: schemas.ReportStatus}, UNKNOWN),
    Route("DELETE", f"{REPORT}/{{id}}", "Forget an ended report", {204: None}, (*UNKNOWN, Code.REPORT_ACTIVE)),
    Route(
        "GET",
        f"{REPORT}/{{id}}/html",
        "The report as one self-contained page",
        {200: None},
        (*UNKNOWN, Code.REPORT_NOT_READY),
        media="text/html",
    ),
    Route(
        "POST",
        f"{REPORT}/{{id}}/cancel",
        "Stop a report; its status is cancelled once nothing computes any more",
        {202: schemas.ReportItem},
        (*UNKNOWN, Code.REPORT_ENDED),
    ),
    Route("GET", "/models", "The manifests of all models", {200: schemas.ModelList}, JOBS),
    Route(
        "POST",
        "/models",
        "Bring an ONNX classifier; what `settings` leave out is guessed from the graph and shown",
        {201: brought.ModelAdded},
        (*UPLOAD, Code.MODEL_FAILED),
        Declared,
        consumes=MULTIPART,
        answer_headers=("Location",),
    ),
    Route(
        "POST",
        "/models/reload",
        "Look under GAUNTLET_MODELS again",
        {200: brought.Reloaded},
        (*JOBS, Code.TOO_BUSY),
    ),
    Route(
        "DELETE",
        "/models/{name}",
        "Forget an uploaded model",
        {204: None},
        (*JOBS, Code.UNKNOWN_MODEL, Code.BUILT_IN, Code.IN_USE),
    ),
    Route(
        "GET",
        "/evalsets",
        "Every evaluation set, with its first images",
        {200: brought.EvalSetList},
        (*JOBS, Code.INVALID),
        query=brought.SamplesQuery,
    ),
    Route(
        "POST",
        "/evalsets",
        "Bring labelled images: an .npz with images and labels, or a zip of one folder per class",
        {201: brought.EvalSetInfo},
        UPLOAD,
        DeclaredImages,
        consumes=MULTIPART,
        answer_headers=("Location",),
    ),
    Route(
        "GET",
        "/evalsets/{name}",
        "One evaluation set, with its first images",
        {200: brought.EvalSetInfo},
        (*JOBS, Code.INVALID, Code.UNKNOWN_DATASET),
        query=brought.SamplesQuery,
    ),
    Route(
        "DELETE",
        "/evalsets/{name}",
        "Forget an uploaded evaluation set",
        {204: None},
        (*JOBS, Code.UNKNOWN_DATASET, Code.BUILT_IN, Code.IN_USE),
    ),
    Route(
        "GET",
        "/models/{name}",
        "The manifest of one model",
        {200: (ClassifierManifest, GeneratorManifest)},
        (*JOBS, Code.UNKNOWN_MODEL),
    ),
    Route("GET", "/attacks", "Every attack with the JSON schema of its params", {200: schemas.AttackList}),
    Route("GET", "/livez", "Alive", {200: None}, media=TEXT),
    Route("GET", "/healthz", "As /livez", {200: None}, media=TEXT),
    Route(
        "GET", "/readyz", "Ready; details of the 503 say what is not", {200: None}, (*READ, Code.NOT_READY), media=TEXT
    ),
    Route("GET", "/metrics", "For Prometheus", {200: None}, media="text/plain; version=1.0.0; charset=utf-8"),
    Route("GET", "/openapi.json", "This description", {200: None}),
    Route("GET", "/schema.json", "What BentoML's client reads", {200: None}),
    *_both("GET", "", "The model's input and outputs", v2.ModelMetadata),
    *_both("GET", "/ready", "Whether the model answers", v2.ModelReady),
    *_both("POST", "/infer", "Classify or generate a batch, as JSON or bytes", v2.InferResponse, v2.InferRequest),
    _oip("GET", "/v2", "Open Inference Protocol: the server", v2.ServerMetadata),
    _oip("GET", "/v2/health/live", "Alive", v2.ServerLive),
    _oip("GET", "/v2/health/ready", "Ready to answer", v2.ServerReady),
    _oip("POST", "/v2/repository/index", "Models, loaded or not", v2.RepositoryIndex, INDEXED, v2.IndexRequest),
    _oip("POST", f"{STORED}/unload", "Take a model out of service", None, LOADED, v2.RepositoryRequest),
    _oip("POST", f"{STORED}/load", "Bring it back, or what is new of it", None, LOADED, v2.RepositoryRequest),
)


def _find(path: str) -> Mapping[str, Route]:
    return {route.method: route for route in ROUTES if route.pattern.fullmatch(path)}


PLAIN: Mapping[str, Mapping[str, Route]] = {
    route.path: {other.method: other for other in ROUTES if other.path == route.path}
    for route in ROUTES
    if not route.parameters
}
"""What most requests are for. Such a path goes before a template that it fits, as OpenAPI has it: /models/reload."""


def match(path: str) -> Mapping[str, Route]:
    """The routes of a path by method; none for a path that does not exist."""
    return PLAIN.get(path) or _find(path)


def oip(path: str) -> bool:
    """Whether it is one of the Open Inference Protocol's, or would be."""
    return path == "/v2" or path.startswith("/v2/")
