"""Traces are BentoML's (docs/operations.md says how to have them): what a span says of a request is ours."""

from opentelemetry import trace


def describe(method: str, route: str, request_id: str) -> None:
    """Name the span of this request, if it is sampled, by route and not by path, and give it the request's id."""
    span = trace.get_current_span()
    if span.get_span_context().trace_flags.sampled:  # BentoML records the others too, for nobody
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.route": route, "gauntlet.request_id": request_id})
