"""One logger for the service, in lines of its own: BentoML's carry trace ids that nobody asked for.

GAUNTLET_LOG_FORMAT=json makes one JSON object of every line, whoever wrote it, with the id of the request and, where
it is sampled, of its trace.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from opentelemetry import trace

from gauntlet.errors import escaped
from service.request_context import CALL, NO_REQUEST

LOGGER = logging.getLogger("gauntlet.service")
SANDBOX = logging.getLogger("gauntlet.sandbox")
"""What happens to processes that run what users brought."""
RUNTIME = logging.getLogger("gauntlet.runtime")
"""What is opened without something that it could have."""
AUDIT = logging.getLogger("gauntlet.audit")
"""Who was refused, and what admins did. Always JSON, whatever GAUNTLET_LOG_FORMAT says."""
Format = Literal["text", "json"]
TEXT = "%(asctime)s %(levelname)s %(message)s"


class Json(logging.Formatter):
    """One object a line. What a record carries under ``fields`` stands beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = CALL.get().request_id
        if request_id != NO_REQUEST:
            line["request_id"] = request_id
        context = trace.get_current_span().get_span_context()
        if context.trace_flags.sampled:
            line["trace_id"] = trace.format_trace_id(context.trace_id)
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Text(logging.Formatter):
    """One line a message, whatever is in it; lines of a traceback are indented, so that none passes for a record."""

    def __init__(self) -> None:
        super().__init__(TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return "\n".join(f"    {escaped(line)}" for line in super().formatException(ei).splitlines())


def configure(form: Format) -> None:
    """Write to standard output. Asking again changes nothing."""
    for logger in (LOGGER, SANDBOX, RUNTIME):
        if not logger.handlers:
            handler = logging.StreamHandler(sys.stdout)
            handler.setFormatter(Text())
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
            logger.propagate = False
        logger.disabled = False  # BentoML's own configuration disables all that were there before
    audit()
    shape(form)


def audit() -> None:
    """Write the audit's lines to standard output."""
    if not AUDIT.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(Json())
        AUDIT.addHandler(handler)
        AUDIT.setLevel(logging.INFO)
        AUDIT.propagate = False
    AUDIT.disabled = False


def shape(form: Format) -> None:
    """Give every handler there is, the framework's too, the format asked for."""
    if form == "text":
        return
    named = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    for logger in (logging.root, *named):
        for handler in logger.handlers:
            handler.setFormatter(Json())
