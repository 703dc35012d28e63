"""Exports of a report to the file formats that pipelines read; the ending of the path selects the format."""

from collections.abc import Callable, Mapping
from pathlib import Path

from gauntlet.errors import InvalidInput
from gauntlet.report import page
from gauntlet.report.exports import cyclonedx, junit, markdown, sarif
from gauntlet.report.exports.gate import Gate
from gauntlet.report.schema import Report

Writer = Callable[[Report, Gate], str]

WRITERS: Mapping[str, Writer] = {
    ".html": lambda report, _: page.render(report),
    ".json": lambda report, _: report.model_dump_json(indent=1),
    ".xml": junit.render,
    ".sarif": sarif.render,
    ".cdx.json": cyclonedx.render,
    ".md": markdown.summary,
    ".card.md": markdown.model_card,
}
ENDINGS = ", ".join(f"*{ending}" for ending in WRITERS)


def writer(path: Path) -> Writer:
    """Return the function that renders a report as such a file. Raises InvalidInput for an unknown ending."""
    fitting = [ending for ending in WRITERS if path.name.endswith(ending)]
    if not fitting:
        raise InvalidInput(f"{path}: a report is written to one of {ENDINGS}")
    return WRITERS[max(fitting, key=len)]


def write(report: Report, path: Path, gate: Gate) -> None:
    """Write the report. Raises InvalidInput if the ending is unknown, or if the file cannot be written."""
    write_text(path, writer(path)(report, gate))


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8. Raises InvalidInput if it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written ({error.strerror})") from error
