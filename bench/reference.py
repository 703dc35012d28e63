"""``python -m bench.reference``: write docs/reference/ from the code: HTTP API, errors, metrics, CLI, attacks."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gauntlet.attacks import ATTACKS
from gauntlet.cli.main import COMMANDS, parser_for
from gauntlet.report.exports import markdown
from gauntlet.report.wording import NORM_NAMES, listed
from service.endpoints.openapi import document
from service.endpoints.routes import ENDPOINTS
from service.errors import STATUS, Code
from service.jobs.queue_metrics import JobMetrics
from service.jobs.status import Backlog, Status
from service.observability import metrics, worker_metrics

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
WIDTH = "100"  # columns of the command line's help
NEEDS = {"gradient": "gradients", "score": "scores", "label": "labels"}
PAPER = re.compile(r'(?P<authors>[A-Z][^".]*?(?: et al\.)?), "(?P<title>[^"]+)",? arXiv (?P<number>\d{4}\.\d{4,5})')
KINDS = ("counter", "gauge", "histogram")

ATTACKS_INTRO = (
    "Every attack of `gauntlet attack NAME`, `gauntlet report --attacks NAME` and `POST /attack`. One that is "
    "*minimum-norm* looks for the smallest perturbation and needs no eps; every other one needs it."
)
HTTP_INTRO = (
    "`GET /openapi.json` has every schema, and examples. A key goes into the header `Authorization: Bearer "
    "KEY`; *scope* is what it must have where the service asks for keys. [Error codes](errors.md) are one "
    "closed set."
)
ERRORS_INTRO = (
    'Every error is `{"error": {"code", "message", "details", "request_id"}}`. `code` is one of these and does '
    "not change with a release that is not a major one; `message` says in words what is wrong and what would "
    "be right; `details.field` names the part of the request, as `images.3`. 429 and 503 carry `Retry-After`."
)
METRICS_INTRO = (
    "For Prometheus. Labels are loaded models, route templates and closed sets, never what a client sent. A "
    "histogram has `_bucket`, `_sum` and `_count`."
)
ANYWHERE = {
    Code.NOT_FOUND: "any route",
    Code.METHOD_NOT_ALLOWED: "any route",
    Code.UNAUTHENTICATED: "any route that needs a key",
    Code.FORBIDDEN: "any route",
    Code.RATE_LIMITED: "any route",
    Code.BODY_TOO_SLOW: "any route that takes a body",
    Code.OVERLOADED: "any route that takes a body",
    Code.CLIENT_GONE: "none: the log has it",
    Code.INTERNAL: "any route",
}
"""Codes that no endpoint needs to declare: they come from the middleware around all endpoints."""
COMMANDS_INTRO = (
    "`gauntlet`, or `python -m gauntlet`. Exit status 0: done; 1: a requirement is missed, or a model got less "
    "robust; 2: something broke, or a check says that the figures are not valid; 130: interrupted."
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(markdown.table(head, rows))


def attack_row(name: str) -> tuple[str, str, str, str]:
    """Return name, norms, paper with a link, and the model access that the attack needs."""
    attack = ATTACKS[name]
    found = PAPER.search(" ".join(attack.summary.split()))
    paper = "a baseline"
    if found is not None:
        paper = f"[{found['title']}](https://arxiv.org/abs/{found['number']})"
    norms = ", ".join(NORM_NAMES[norm].removesuffix(" (pixels)") for norm in NORM_NAMES if norm in attack.norms)
    return f"`{name}`", norms, paper, NEEDS[attack.access]


def attack_line(name: str) -> str:
    """Return the attack's row in the README's table, shorter: the paper by its authors and number."""
    attack = ATTACKS[name]
    _, norms, _, needs = attack_row(name)
    found = PAPER.search(" ".join(attack.summary.split()))
    paper = "a baseline"
    if found is not None:
        paper = f"{found['authors']}, [{found['number']}](https://arxiv.org/abs/{found['number']})"
    return f"| `{name}` | {norms} | {paper} | {needs} |"


def attack_table() -> str:
    return table(("attack", "norms", "paper", "needs"), map(attack_row, ATTACKS))


def attacks() -> str:
    parts = [
        "# Attacks",
        ATTACKS_INTRO,
        attack_table(),
    ]
    for name, attack in ATTACKS.items():
        kind = "minimum-norm" if attack.minimum_norm else "at a fixed eps"
        aims = "can aim at a chosen class" if attack.targeted else "untargeted only"
        parts += [f"## {name}", f"*{kind}; {aims}; costs {_cost(name)} passes an image by default.*", attack.summary]
        fields = attack.params.model_json_schema().get("properties", {})
        if fields:
            head = ("parameter", "default", "bounds", "meaning")
            parts.append(table(head, (_parameter(field, schema) for field, schema in fields.items())))
    return "\n\n".join(parts)


def _cost(name: str) -> str:
    return f"{ATTACKS[name].gradient_steps(ATTACKS[name].params()):,}"


def _parameter(name: str, schema: Mapping[str, Any]) -> tuple[str, str, str, str]:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    choices = ", ".join(f"`{value}`" for value in schema.get("enum", ()))
    bounds = choices or (f"{low} to {high}" if low is not None and high is not None else "")
    return f"`{name}`", f"`{schema.get('default')}`", bounds, schema.get("description", "")


def http() -> str:
    """Return the page of the routes, from the document of ``GET /openapi.json``."""
    described = document(ENDPOINTS, keyed=True)
    parts = [
        "# HTTP API",
        f"{described['info']['description']} {HTTP_INTRO}",
        table(("route", "", "scope"), _routes()),
    ]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            parts += [f"## {method.upper()} {path}", f"{operation['summary']}.", *_operation(operation, described)]
    return "\n\n".join(parts)


def _routes() -> Iterator[tuple[str, str, str]]:
    for endpoint in ENDPOINTS:
        yield f"`{endpoint.method} {endpoint.path}`", endpoint.summary, endpoint.scope or "none"


def _operation(operation: Mapping[str, Any], described: Mapping[str, Any]) -> Iterator[str]:
    named = [f"`{entry['name']}` ({entry['in']})" for entry in operation["parameters"]]
    if named:
        yield f"Parameters: {', '.join(named)}."
    content = operation.get("requestBody", {}).get("content", {})
    for media, entry in content.items():
        schema = _resolved(entry["schema"], described)
        if schema.get("properties"):
            required = schema.get("required", ())
            fields = (
                (f"`{name}`", "required" if name in required else "", _kind(part, described), _meaning(part))
                for name, part in schema["properties"].items()
            )
            yield f"Body, `{media}`:"
            yield table(("field", "", "type", "meaning"), fields)
    rows = ((status, answer["description"], _answer(answer)) for status, answer in operation["responses"].items())
    yield table(("status", "", "body"), rows)


def _resolved(schema: Mapping[str, Any], described: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in schema:
        found: Mapping[str, Any] = described["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        return found
    return schema


def _kind(schema: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    """Describe the type of a schema in a few words."""
    if "anyOf" in schema or "oneOf" in schema:
        alternatives = [_kind(part, described) for part in schema.get("anyOf", schema.get("oneOf", ()))]
        return " or ".join(dict.fromkeys(alternatives))
    if "$ref" in schema:
        return _kind(_resolved(schema, described), described)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}), described)}"
    return str(schema.get("type", "anything"))


def _meaning(schema: Mapping[str, Any]) -> str:
    default = f" (default `{schema['default']}`)" if schema.get("default") not in (None, [], {}) else ""
    return " ".join(str(schema.get("description", "")).split()) + default


def _answer(answer: Mapping[str, Any]) -> str:
    names = []
    for media, entry in answer.get("content", {}).items():
        schemas = entry["schema"].get("oneOf", [entry["schema"]])
        refs = [schema["$ref"].rsplit("/", 1)[1] for schema in schemas if "$ref" in schema]
        names.append(" or ".join(refs) or media)
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))


def errors() -> str:
    """Return the page of error codes: status, and the routes that declare it. Raises ValueError if none does."""
    by_code: dict[Code, list[str]] = {code: [] for code in Code}
    for endpoint in ENDPOINTS:
        for code in endpoint.errors:
            by_code[code].append(f"`{endpoint.method} {endpoint.path}`")
    if undeclared := [code for code, routes in by_code.items() if not routes and code not in ANYWHERE]:
        raise ValueError(f"no row of service.endpoints.routes declares {listed(undeclared)}")
    rows = (
        (f"`{code}`", str(STATUS[code]), ANYWHERE.get(code) or ", ".join(routes)) for code, routes in by_code.items()
    )
    return "\n\n".join(
        [
            "# Error codes",
            ERRORS_INTRO,
            table(("code", "status", "given by"), rows),
        ]
    )


def metric_page() -> str:
    """Return the page of the metrics of ``GET /metrics``, of the service and of a worker."""
    backlog = Backlog(counts=dict.fromkeys(Status, 0), oldest=0.0)
    jobs = [
        (
            family.name,
            family.type,
            sorted({label for sample in family.samples for label in sample.labels}),
            family.documentation,
        )
        for family in JobMetrics(lambda: backlog, lambda: 1, FOLDER).collect()
    ]
    return "\n\n".join(
        [
            "# Metrics",
            METRICS_INTRO,
            "## The service: `GET /metrics`",
            table(("metric", "type", "labels", "meaning"), map(_metric, [*_counted(metrics), *jobs])),
            "## A worker: `GET /metrics` on `GAUNTLET_WORKER_PORT`",
            table(("metric", "type", "labels", "meaning"), map(_metric, _counted(worker_metrics))),
        ]
    )


Described = tuple[str, str, Sequence[str], str]


def _counted(module: Any) -> Iterator[Described]:
    for value in vars(module).values():
        name, documentation = getattr(value, "_name", None), getattr(value, "_documentation", None)
        if name and documentation and getattr(value, "_type", None) in KINDS:
            yield name, value._type, value._labelnames, documentation  # noqa: SLF001 - prometheus_client has no other way


def _metric(described: Described) -> tuple[str, str, str, str]:
    name, kind, labels, meaning = described
    total = "_total" if kind == "counter" else ""
    return f"`{name}{total}`", kind, ", ".join(f"`{label}`" for label in labels), meaning


def command_line() -> str:
    """Return the page with the help of every command, as printed."""
    os.environ["COLUMNS"] = WIDTH
    parts = [
        "# Command line",
        f"{COMMANDS_INTRO} Commands: {listed([f'[{name}](#gauntlet-{name})' for name in COMMANDS])}.",
        f"```text\n{parser_for([]).format_help().rstrip()}\n```",
    ]
    for name, what in COMMANDS.items():
        actions = parser_for([name])._subparsers._group_actions  # type: ignore[union-attr]  # noqa: SLF001
        help_ = actions[0].choices[name].format_help()  # type: ignore[index]
        parts += [f"## gauntlet {name}", what, f"```text\n{help_.rstrip()}\n```"]
    return "\n\n".join(parts)


PAGES: Mapping[str, Callable[[], str]] = {
    "attacks": attacks,
    "command-line": command_line,
    "errors": errors,
    "http": http,
    "metrics": metric_page,
}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for page, made in PAGES.items():
        (FOLDER / f"{page}.md").write_text(f"{made()}\n")
