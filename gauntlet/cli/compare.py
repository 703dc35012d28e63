"""``gauntlet compare``: compare two reports; a gate for continuous integration."""

import argparse
from pathlib import Path

from pydantic import ValidationError

from gauntlet.errors import InvalidInput
from gauntlet.report import exports
from gauntlet.report.compare import compare
from gauntlet.report.exports import markdown
from gauntlet.report.schema import Report


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    add_tolerance(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the changes as Markdown too")


def run(options: argparse.Namespace) -> int:
    """Print what changed between two reports. Returns 1 if a model got less robust, else 0. Raises InvalidInput."""
    before, after = (read(path) for path in (options.before, options.after))
    found = compare(before, after, options.tolerance / 100)
    for change in (*found.gains, *found.losses):
        print(change)
    if not found.losses:
        print(f"no accuracy dropped by more than {options.tolerance:g} points")
    if options.out is not None:
        exports.write_text(options.out, markdown.changes(found))
    return 1 if found.losses else 0


def add_tolerance(parser: argparse.ArgumentParser) -> None:
    """Add the option for how much an accuracy may change without being reported."""
    parser.add_argument("--tolerance", type=points, default=1.0, help="points that count as no change (%(default)s)")


def points(text: str) -> float:
    """Parse percentage points, 0 to 100. Raises ValueError."""
    if not 0 <= (value := float(text)) <= 100:
        raise ValueError(text)
    return value


def read(path: Path) -> Report:
    """Read a report from JSON. Raises InvalidInput."""
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise InvalidInput(f"{path}: is not a robustness report of this version") from error
