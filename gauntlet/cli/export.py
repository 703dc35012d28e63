"""``gauntlet export``: write other files from a report that was measured before."""

import argparse
from pathlib import Path

from gauntlet.cli import outputs
from gauntlet.cli.compare import read


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("report", type=Path, metavar="REPORT.json", help="as `gauntlet report --out` writes it")
    outputs.add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the files and print the verdict. Returns the exit status of ``outputs.finish``. Raises InvalidInput."""
    outputs.required(options)
    outputs.check(options)
    return outputs.finish(read(options.report), options, {})
