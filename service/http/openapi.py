"""/openapi.json, 3.1, from the route table and the very pydantic models that read and write the bodies."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.access.scopes import UNMETERED, needs
from service.errors import STATUS, Code
from service.http.routes import BINARY, ROUTES, Route

REF = "#/components/schemas/{model}"
DESCRIPTION = (
    "Image classifiers and generators together with their robustness. Pixels are in [0, 1], so are eps and radii. "
    "Every 4xx and 5xx is an Envelope, its code one of a closed set; under /v2 (Open Inference Protocol) a Failure."
)
HEADERS = {
    "Idempotency-Key": "the same key with the same body finds the first report again; with another body it is a 422",
    "Location": "where to ask for what was made",
}


SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "a key, as `python -m service keys new` makes them"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same key"},
}
WITH_KEY = (Code.UNAUTHENTICATED, Code.FORBIDDEN)
WITH_BODY = (Code.BODY_TOO_SLOW, Code.TOO_LARGE, Code.OVERLOADED, Code.FORBIDDEN)


@cache
def document(keyed: bool) -> dict[str, Any]:
    """The whole description of a service that asks for keys, or of one that does not."""
    schemas, names = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas, keyed)
    security = {"securitySchemes": SCHEMES} if keyed else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gauntlet", "version": release(), "description": DESCRIPTION},
        "paths": paths,
        "components": {"schemas": names, **security},
    }


def release() -> str:
    try:
        return version("gauntlet")
    except PackageNotFoundError:  # served from a source tree that is not installed
        return "0"


Refs = dict[tuple[type[BaseModel], str], dict[str, Any]]


def _schemas() -> tuple[Refs, dict[str, Any]]:
    """References by (model, mode), and the components that they point to."""
    wanted: list[tuple[type[BaseModel], Any]] = []
    for route in ROUTES:
        wanted.append((route.failure, "serialization"))
        wanted += [(model, "validation") for model in (route.body, route.query) if model is not None]
        wanted += [(model, "serialization") for answer in route.answers.values() for model in _models(answer)]
    refs, definitions = models_json_schema(list(dict.fromkeys(wanted)), ref_template=REF)
    return dict(refs), definitions["$defs"]  # type: ignore[arg-type]  # pydantic's key is wider than ours


def _models(answer: type[BaseModel] | tuple[type[BaseModel], ...] | None) -> tuple[type[BaseModel], ...]:
    if answer is None:
        return ()
    return answer if isinstance(answer, tuple) else (answer,)


def _operation(route: Route, refs: Refs, keyed: bool) -> dict[str, Any]:
    scope = needs(route.method, route.path) if keyed else None
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{route.path.replace('/', '_').translate({123: None, 125: None})}",
        "parameters": _parameters(route),
        "responses": {**_answers(route, refs), **_errors(route, refs, scope is not None)},
    }
    if keyed:  # a list of alternatives; OpenAPI 3.1 has scopes there for every scheme
        operation["security"] = [] if scope is None else [{name: [scope]} for name in SCHEMES]
    if route.body is not None:
        schema = refs[route.body, "validation"]
        if route.consumes != "application/json":
            file = {"type": "string", "format": "binary"}
            parts = {"file": file, "settings": schema}
            schema = {"type": "object", "required": list(parts), "properties": parts, "additionalProperties": False}
        content: dict[str, Any] = {route.consumes: {"schema": schema}}
        if route.binary:
            content[BINARY] = {"schema": {"type": "string", "format": "binary"}}
        required = any(field.is_required() for field in route.body.model_fields.values())
        operation["requestBody"] = {"required": required, "content": content}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    listed = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.parameters]
    listed += [
        {"name": name, "in": "header", "required": False, "description": HEADERS[name], "schema": {"type": "string"}}
        for name in route.headers
    ]
    if route.query is not None:
        schema = route.query.model_json_schema(ref_template=REF)
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


def _answers(route: Route, refs: Refs) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, answer in route.answers.items():
        entry: dict[str, Any] = {"description": "No content" if status == 204 else "As asked"}
        found = [refs[model, "serialization"] for model in _models(answer)]
        if found:
            schema = found[0] if len(found) == 1 else {"oneOf": found}
            entry["content"] = {route.media: {"schema": schema}}
            if route.binary:
                entry["content"][BINARY] = {"schema": {"type": "string", "format": "binary"}}
        elif status != 204:
            entry["content"] = {
                route.media: {"schema": {"type": "object"} if "json" in route.media else {"type": "string"}}
            }
        if route.answer_headers:
            entry["headers"] = {
                name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in route.answer_headers
            }
        answers[str(status)] = entry
    return answers


def _errors(route: Route, refs: Refs, guarded: bool) -> dict[str, Any]:
    by_status: dict[int, list[Code]] = {}
    metered = () if route.path in UNMETERED and not guarded else (Code.RATE_LIMITED,)  # who guesses keys is metered
    sent = WITH_BODY if route.method != "GET" else ()
    for code in dict.fromkeys((*route.errors, *metered, *sent, *(WITH_KEY if guarded else ()))):
        by_status.setdefault(STATUS[code], []).append(code)
    content = {"application/json": {"schema": refs[route.failure, "serialization"]}}
    return {
        str(status): {"description": ", ".join(codes), "content": content}
        for status, codes in sorted(by_status.items())
    }
