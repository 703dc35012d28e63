"""Every endpoint there is, once: from this table come routing, scopes, the labels of metrics and /openapi.json."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from gauntlet.report.schema import ReportRequest
from service.endpoint import COMMON_ERRORS, MULTIPART, Endpoint, Handler, Method
from service.endpoints import (
    attacks,
    evalsets,
    generation,
    health,
    models,
    openapi,
    pictures,
    predictions,
    reports,
)
from service.endpoints.errors import COSTLY, JOBS, MODEL, UNKNOWN, UPLOAD
from service.endpoints.forwarding import forward
from service.endpoints.protocol_routes import PROTOCOL_ENDPOINTS
from service.errors import Code, ServiceError
from service.request_context import Scope
from service.schemas import certify, uploads
from service.schemas import main_calls as schemas
from service.web import page

REPORT = "/robustness-report"
TEXT = "text/plain; charset=utf-8"
LOCATION = ("Location",)


def _row(method: Method, path: str, scope: Scope | None, handler: Handler, summary: str, **more: object) -> Endpoint:
    """``answers`` left out: a body without a schema, with the status 200."""
    row = {"answers": {200: None}, "failure": schemas.Envelope, **more}
    return Endpoint(method, path, scope, handler, summary, **row)  # type: ignore[arg-type]  # checked by the dataclass


def by_bentoml(_: Request) -> Response:
    """BentoML answers this path itself, where it is there."""
    raise ServiceError(Code.NOT_FOUND, "BentoML does not serve this process")


MAIN = (
    _row(
        "POST",
        "/classify",
        Scope.READ,
        predictions.classify_endpoint,
        "Predict, with certificates; with `smoothing`, of the smoothed classifier",
        answers={200: schemas.ClassifyResponse},
        errors=(*MODEL, *COSTLY),
        body=schemas.ClassifyRequest,
    ),
    _row(
        "POST",
        "/pictures",
        Scope.READ,
        pictures.pictures_endpoint,
        "Show images as a classifier sees them: turned upright, on black where transparent, scaled",
        answers={200: schemas.PicturesResponse},
        errors=(*MODEL, Code.TOO_BUSY),
        body=schemas.PicturesRequest,
    ),
    _row(
        "POST",
        "/generate",
        Scope.READ,
        generation.generate_endpoint,
        "Draw images",
        answers={200: schemas.GenerateResponse},
        errors=(*MODEL, Code.TOO_BUSY),
        body=schemas.GenerateRequest,
    ),
    _row(
        "POST",
        "/attack",
        Scope.ATTACK,
        attacks.attack_endpoint,
        "Attack a classifier on given images",
        answers={200: schemas.AttackResponse},
        errors=(*MODEL, Code.UNKNOWN_ATTACK, *COSTLY),
        body=schemas.AttackRequest,
    ),
    _row(
        "POST",
        "/certify",
        Scope.ATTACK,
        attacks.certify_endpoint,
        "Prove or refute, image by image, that nothing within a distance has another class",
        answers={200: certify.CertifyResponse},
        errors=(*MODEL, *COSTLY),
        body=certify.CertifyRequest,
    ),
    _row(
        "GET",
        "/attacks",
        Scope.READ,
        attacks.list_attacks,
        "Every attack with the JSON schema of its params",
        answers={200: schemas.AttackList},
        errors=(*COMMON_ERRORS, Code.NOT_READY),
    ),
)

REPORTS = (
    _row(
        "POST",
        REPORT,
        Scope.ATTACK,
        reports.submit_report_endpoint,
        "Ask for a robustness report; 200 is the answer to an Idempotency-Key already used with this body",
        answers={202: schemas.ReportAccepted, 200: schemas.ReportAccepted},
        errors=(
            *MODEL,
            Code.UNKNOWN_ATTACK,
            Code.UNKNOWN_DATASET,
            Code.IDEMPOTENCY_MISMATCH,
            Code.TOO_BUSY,
            Code.QUOTA_EXCEEDED,
        ),
        body=ReportRequest,
        headers=("Idempotency-Key",),
        answer_headers=LOCATION,
    ),
    _row(
        "GET",
        REPORT,
        Scope.READ,
        reports.list_reports,
        "List reports, newest first",
        answers={200: schemas.ReportList},
        errors=(*JOBS, Code.INVALID),
        query=schemas.ReportQuery,
    ),
    _row(
        "GET",
        f"{REPORT}/{{id}}",
        Scope.READ,
        reports.get_report,
        "A report and where it stands",
        answers={200: schemas.ReportStatus},
        errors=UNKNOWN,
    ),
    _row(
        "DELETE",
        f"{REPORT}/{{id}}",
        Scope.ATTACK,
        reports.delete_report,
        "Forget an ended report",
        answers={204: None},
        errors=(*UNKNOWN, Code.REPORT_ACTIVE),
    ),
    _row(
        "GET",
        f"{REPORT}/{{id}}/html",
        Scope.READ,
        reports.get_report_page,
        "The report as one self-contained page",
        errors=(*UNKNOWN, Code.REPORT_NOT_READY, Code.REPORT_OUTDATED),
        media="text/html",
    ),
    _row(
        "POST",
        f"{REPORT}/{{id}}/cancel",
        Scope.ATTACK,
        reports.cancel_report,
        "Stop a report; its status is cancelled once nothing computes any more",
        answers={202: schemas.ReportItem},
        errors=(*UNKNOWN, Code.REPORT_ENDED),
    ),
)

MODELS = (
    _row(
        "GET",
        "/models",
        Scope.READ,
        models.list_models,
        "The manifests of all models",
        answers={200: schemas.ModelList},
        errors=JOBS,
    ),
    _row(
        "POST",
        "/models",
        Scope.UPLOAD,
        forward,
        "Bring an ONNX classifier, alone, in a zip with the files of its weights, or with these as `weights`; a text "
        "file or config.json as `classes` names its classes; what `settings` leave out is guessed from the graph and "
        "shown. 201 where it is open within seconds, otherwise 202: GET /models/{name} says when it is ready, or why "
        "it failed",
        answers={201: uploads.ModelAdded, 202: schemas.ModelOpening},
        errors=(*UPLOAD, Code.MODEL_FAILED, Code.UNKNOWN_DATASET),
        body=uploads.UploadSettings,
        consumes=MULTIPART,
        file_needed=False,
        more_files=uploads.MORE_FILES,
        headers=("Prefer",),
        answer_headers=LOCATION,
    ),
    _row(
        "POST",
        "/models/reload",
        Scope.ADMIN,
        forward,
        "Look under GAUNTLET_MODELS again",
        answers={200: uploads.Reloaded},
        errors=(*JOBS, Code.TOO_BUSY, Code.NOT_READY),
    ),
    _row(
        "GET",
        "/models/{name}",
        Scope.READ,
        models.get_model,
        "The manifest of one model, or how far an upload is: its `state` is ready, opening or failed",
        answers={200: (schemas.ReadyClassifier, schemas.ReadyGenerator, schemas.ModelOpening)},
        errors=(*JOBS, Code.UNKNOWN_MODEL),
    ),
    _row(
        "DELETE",
        "/models/{name}",
        Scope.UPLOAD,
        forward,
        "Forget an uploaded model",
        answers={204: None},
        errors=(*JOBS, Code.UNKNOWN_MODEL, Code.BUILT_IN, Code.IN_USE, Code.NOT_READY),
    ),
)

EVALSETS = (
    _row(
        "GET",
        "/evalsets",
        Scope.READ,
        evalsets.list_evalsets,
        "Every evaluation set, with its first images",
        answers={200: uploads.EvalSetList},
        errors=(*JOBS, Code.INVALID),
        query=uploads.SamplesQuery,
    ),
    _row(
        "POST",
        "/evalsets",
        Scope.UPLOAD,
        forward,
        "Bring labelled images: an .npz with images and labels, or a zip of one folder per class",
        answers={201: uploads.EvalSetInfo},
        errors=(*UPLOAD, Code.MODEL_FAILED),
        body=uploads.EvalSetSettings,
        consumes=MULTIPART,
        answer_headers=LOCATION,
    ),
    _row(
        "GET",
        "/evalsets/{name}",
        Scope.READ,
        evalsets.get_evalset,
        "One evaluation set, with its first images",
        answers={200: uploads.EvalSetInfo},
        errors=(*JOBS, Code.INVALID, Code.UNKNOWN_DATASET),
        query=uploads.SamplesQuery,
    ),
    _row(
        "DELETE",
        "/evalsets/{name}",
        Scope.UPLOAD,
        evalsets.delete_evalset,
        "Forget an uploaded evaluation set",
        answers={204: None},
        errors=(*JOBS, Code.UNKNOWN_DATASET, Code.BUILT_IN, Code.IN_USE),
    ),
)

PAGES = (
    _row("GET", "/", None, page.get_index, "The page: everything here with the eyes", media="text/html"),
    _row("GET", "/static/{file}", None, page.get_static, "What the page is made of", media="*/*", compressed=True),
)

WATCHING = (
    _row("GET", "/livez", None, health.get_live, "Alive", media=TEXT, metered=False),
    _row("GET", "/healthz", None, health.get_live, "As /livez", media=TEXT, metered=False),
    _row(
        "GET",
        "/readyz",
        None,
        health.get_ready,
        "Ready; details of the 503 say what is not",
        errors=(*COMMON_ERRORS, Code.NOT_READY),
        media=TEXT,
        metered=False,
    ),
    _row(
        "GET",
        "/metrics",
        Scope.READ,  # None with GAUNTLET_METRICS_OPEN
        health.get_metrics,
        "For Prometheus",
        media="text/plain; version=1.0.0; charset=utf-8",
        metered=False,
    ),
    _row("GET", "/openapi.json", None, openapi.get_openapi, "This description"),
    _row("GET", "/schema.json", None, by_bentoml, "What BentoML's client reads"),
)

ENDPOINTS: tuple[Endpoint, ...] = (*PAGES, *MAIN, *REPORTS, *MODELS, *EVALSETS, *WATCHING, *PROTOCOL_ENDPOINTS)
"""A template comes after the plain paths that it fits, as /models/{name} after /models/reload."""

_PLAIN: Mapping[str, Mapping[str, Endpoint]] = {
    endpoint.path: {other.method: other for other in ENDPOINTS if other.path == endpoint.path}
    for endpoint in ENDPOINTS
    if not endpoint.parameters
}
"""What most requests are for. Such a path goes before a template that it fits, as OpenAPI has it: /models/reload."""


def match(path: str) -> Mapping[str, Endpoint]:
    """The endpoints of a path by method; none for a path that does not exist."""
    return _PLAIN.get(path) or {endpoint.method: endpoint for endpoint in ENDPOINTS if endpoint.pattern.fullmatch(path)}


def is_inference_protocol(path: str) -> bool:
    """Whether it is one of the Open Inference Protocol's, or would be."""
    return path == "/v2" or path.startswith("/v2/")
