"""/openapi.json, 3.1, from the table of endpoints and the very pydantic models that read and write the bodies."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gauntlet.version import __version__
from service.endpoint import BINARY, Endpoint
from service.endpoints.services import services
from service.errors import STATUS, Code

REF = "#/components/schemas/{model}"
DESCRIPTION = (
    "Image classifiers and generators together with their robustness. Pixels are in [0, 1], so are eps and radii. "
    "Every 4xx and 5xx is an Envelope, its code one of a closed set; under /v2 (Open Inference Protocol) a Failure."
)
HEADERS = {
    "Idempotency-Key": "the same key with the same body finds the first report again; with another body it is a 422",
    "Prefer": "`wait=SECONDS` (RFC 7240): how long the answer may wait for the model to be opened, 10 by default and "
    "600 at most; `respond-async`: not at all",
    "Location": "where to ask for what was made",
}


SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "a key, as `python -m service keys new` makes them"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same key"},
}
WITH_KEY = (Code.UNAUTHENTICATED, Code.FORBIDDEN)
WITH_BODY = (Code.BODY_TOO_SLOW, Code.TOO_LARGE, Code.OVERLOADED, Code.FORBIDDEN)


def get_openapi(request: Request) -> Response:
    """Made once: it takes a tenth of a second."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = document(state.endpoints, services(request).keys_in_use)
    return JSONResponse(state.openapi)


def document(endpoints: tuple[Endpoint, ...], keyed: bool) -> dict[str, Any]:
    """The whole description of a service that asks for keys, or of one that does not."""
    schemas, names = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas, keyed)
    security = {"securitySchemes": SCHEMES} if keyed else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gauntlet", "version": __version__, "description": DESCRIPTION},
        "paths": paths,
        "components": {"schemas": names, **security},
    }


Refs = dict[tuple[type[BaseModel], str], dict[str, Any]]


def _schemas(endpoints: tuple[Endpoint, ...]) -> tuple[Refs, dict[str, Any]]:
    """References by (model, mode), and the components that they point to."""
    wanted: list[tuple[type[BaseModel], Any]] = []
    for endpoint in endpoints:
        wanted.append((endpoint.failure, "serialization"))
        wanted += [(model, "validation") for model in (endpoint.body, endpoint.query) if model is not None]
        wanted += [(model, "serialization") for answer in endpoint.answers.values() for model in _models(answer)]
    refs, definitions = models_json_schema(list(dict.fromkeys(wanted)), ref_template=REF)
    return dict(refs), definitions["$defs"]  # type: ignore[arg-type]  # pydantic's key is wider than ours


def _models(answer: type[BaseModel] | tuple[type[BaseModel], ...] | None) -> tuple[type[BaseModel], ...]:
    if answer is None:
        return ()
    return answer if isinstance(answer, tuple) else (answer,)


def _operation(endpoint: Endpoint, refs: Refs, keyed: bool) -> dict[str, Any]:
    scope = endpoint.scope if keyed else None
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": f"{endpoint.method.lower()}{endpoint.path.replace('/', '_').translate({123: None, 125: None})}",
        "parameters": _parameters(endpoint),
        "responses": {**_answers(endpoint, refs), **_errors(endpoint, refs, scope is not None)},
    }
    if keyed:  # a list of alternatives; OpenAPI 3.1 has scopes there for every scheme
        operation["security"] = [] if scope is None else [{name: [scope]} for name in SCHEMES]
    if endpoint.body is not None:
        schema = refs[endpoint.body, "validation"]
        if endpoint.consumes != "application/json":
            file = {"type": "string", "format": "binary"}
            parts = {"file": file, "settings": schema}
            more = {
                name: file if most == 1 else {"type": "array", "items": file, "maxItems": most}
                for name, most in endpoint.more_files.items()
            }
            needed = list(parts) if endpoint.file_needed else ["settings"]
            schema = {"type": "object", "required": needed, "properties": {**parts, **more}}
            schema["additionalProperties"] = False
        content: dict[str, Any] = {endpoint.consumes: {"schema": schema}}
        if endpoint.binary:
            content[BINARY] = {"schema": {"type": "string", "format": "binary"}}
        required = any(field.is_required() for field in endpoint.body.model_fields.values())
        operation["requestBody"] = {"required": required, "content": content}
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    listed = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in endpoint.parameters
    ]
    listed += [
        {"name": name, "in": "header", "required": False, "description": HEADERS[name], "schema": {"type": "string"}}
        for name in endpoint.headers
    ]
    if endpoint.query is not None:
        schema = endpoint.query.model_json_schema(ref_template=REF)
        listed += [
            {"name": name, "in": "query", "required": False, "schema": _inline(entry, schema.get("$defs", {}))}
            for name, entry in schema["properties"].items()
        ]
    return listed


def _inline(entry: Any, definitions: dict[str, Any]) -> Any:
    """References resolved in place: a query parameter has no component of its own."""
    if isinstance(entry, list):
        return [_inline(value, definitions) for value in entry]
    if not isinstance(entry, dict):
        return entry
    if "$ref" in entry:
        return definitions[entry["$ref"].rsplit("/", 1)[1]]
    return {key: _inline(value, definitions) for key, value in entry.items()}


def _answers(endpoint: Endpoint, refs: Refs) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, answer in endpoint.answers.items():
        entry: dict[str, Any] = {"description": "No content" if status == 204 else "As asked"}
        found = [refs[model, "serialization"] for model in _models(answer)]
        if found:
            schema = found[0] if len(found) == 1 else {"oneOf": found}
            entry["content"] = {endpoint.media: {"schema": schema}}
            if endpoint.binary:
                entry["content"][BINARY] = {"schema": {"type": "string", "format": "binary"}}
        elif status != 204:
            entry["content"] = {
                endpoint.media: {"schema": {"type": "object"} if "json" in endpoint.media else {"type": "string"}}
            }
        if endpoint.answer_headers:
            entry["headers"] = {
                name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in endpoint.answer_headers
            }
        answers[str(status)] = entry
    return answers


def _errors(endpoint: Endpoint, refs: Refs, guarded: bool) -> dict[str, Any]:
    by_status: dict[int, list[Code]] = {}
    metered = () if not endpoint.metered and not guarded else (Code.RATE_LIMITED,)  # who guesses keys is metered
    sent = WITH_BODY if endpoint.method != "GET" else ()
    for code in dict.fromkeys((*endpoint.errors, *metered, *sent, *(WITH_KEY if guarded else ()))):
        by_status.setdefault(STATUS[code], []).append(code)
    content = {"application/json": {"schema": refs[endpoint.failure, "serialization"]}}
    return {
        str(status): {"description": ", ".join(codes), "content": content}
        for status, codes in sorted(by_status.items())
    }
