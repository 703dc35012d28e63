"""``gauntlet export``: another file from a report that has been measured."""

import argparse
from pathlib import Path

from gauntlet.cli import outputs
from gauntlet.cli.compare import read


def add(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("report", type=Path, metavar="REPORT.json", help="as `gauntlet report --out` writes it")
    outputs.add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    outputs.required(options)
    outputs.check(options)
    return outputs.finish(read(options.report), options, {})
