"""Renders docs/zoo.md: the table of the architectures that were opened, and a list of those not run."""

from collections import Counter
from collections.abc import Sequence

from bench.zoo.records import Row
from gauntlet.artifacts.manifest import STRAIGHT_THROUGH, VERIFIED

INTRO = """# Architectures that were opened

`make zoo` builds each architecture with random weights (every BatchNorm fitted to noise; none is trained, so no
accuracy is meant), exports it with `torch.onnx.export` at its default settings, quantises the file with ONNX Runtime's
static quantiser at its default settings, and opens both files in a process of their own as `open_classifier` does.
*Seconds* are those of opening, *memory* the peak of the whole process, about {base:.0f} MiB of which are torch and ONNX
Runtime. *Gradients* are `verified` (the torch twin agrees with the served file and with finite differences),
`straight-through` (8-bit graphs) or `none`, with the reason: then only black-box attacks run. The logits of a random
network lie close together, so that one step of rounding is a large part of their range: reasons of 8-bit files that
name so small a range say little of a trained network.
"""
HEADER = """| architecture | from | pixels | file | MB | seconds | memory, MiB | gradients |
| --- | --- | --- | --- | --- | --- | --- | --- |"""
REASON = 160  # characters


def render(rows: Sequence[Row], skipped: Sequence[str], machine: str, base: float) -> str:
    """Return the page. ``skipped`` are the architectures of the list that this run left out."""
    names = list(dict.fromkeys(row.name for row in rows))
    left_out = f" Not run: {', '.join(skipped)} (`python -m bench.zoo --all`)." if skipped else ""
    measured = f"{len(names)} of {len(names) + len(skipped)} architectures were run. {machine}.{left_out}"
    return "\n".join([INTRO.format(base=base), measured, "", HEADER, *map(_line, rows), "", _summary(rows), ""])


def _line(row: Row) -> str:
    size = "" if row.megabytes is None else f"{row.megabytes:.1f}"
    seconds, peak = ("", "") if row.opened is None else (f"{row.opened.seconds:.1f}", f"{row.opened.peak:.0f}")
    cells = (row.name, row.library, str(row.side), row.form, size, seconds, peak, _gradients(row))
    return f"| {' | '.join(cells)} |"


def _gradients(row: Row) -> str:
    if row.opened is None:
        return _plain(f"failed: {row.failure}")
    return _plain(row.opened.gradients or f"refused: {row.opened.refused}")


def _plain(text: str) -> str:
    """Return the text on one line, safe in a Markdown table, truncated to REASON characters."""
    line = " ".join(text.split()).replace("|", "/")
    return line if len(line) <= REASON else f"{line[:REASON]}..."


def _summary(rows: Sequence[Row]) -> str:
    kinds = Counter(_kind(row) for row in rows)
    return f"Of {len(rows)} files: {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}."


def _kind(row: Row) -> str:
    if row.opened is None:
        return "not made"
    if row.opened.refused is not None:
        return "refused"
    return row.opened.gradients if row.opened.gradients in (VERIFIED, STRAIGHT_THROUGH) else "without gradients"
