"""What a finished report is written to and held against: options that ``report`` and ``export`` share."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from gauntlet.artifacts import mlflow_package
from gauntlet.cli.compare import add_tolerance, read
from gauntlet.errors import InvalidInput
from gauntlet.report import exports, requirements, wording
from gauntlet.report.compare import Comparison, compare
from gauntlet.report.exports import mlflow
from gauntlet.report.exports.gate import Gate
from gauntlet.report.requirements import Requirement
from gauntlet.report.schema import Report


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Options of every command that ends with a report."""
    parser.add_argument(
        "--out", type=Path, action="append", default=[], metavar="FILE", help=f"{exports.ENDINGS}; may be repeated"
    )
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="LINE",
        help=f"exit 1 where it does not hold: {requirements.FORM}; may be repeated",
    )
    parser.add_argument(
        "--point", action="store_true", help="hold the share itself against --require, not the interval"
    )
    parser.add_argument(
        "--baseline", type=Path, metavar="LAST.json", help="exit 1 where a model got less robust than in this report"
    )
    add_tolerance(parser)
    parser.add_argument("--mlflow", action="store_true", help="record it as a run too; MLFLOW_TRACKING_URI says where")


def required(options: argparse.Namespace) -> list[Requirement]:
    """The requirements of the command line. Raises InvalidInput."""
    return [requirements.parse(text) for text in options.require]


def check(options: argparse.Namespace) -> None:
    """Raise InvalidInput where an output cannot be written: before an hour of measuring, not after."""
    for path in options.out:
        exports.writer(path)
        if not path.parent.is_dir():
            raise InvalidInput(f"{path}: there is no folder {path.parent}")
    if options.baseline is not None:
        read(options.baseline)
    if options.mlflow:
        mlflow_package.client()


def finish(report: Report, options: argparse.Namespace, files: Mapping[str, str]) -> int:
    """Write the report and say what it comes to. Returns 2 for an alarm, 1 for a requirement missed or a loss, else 0.

    Raises InvalidInput where the baseline cannot be compared with it; what was measured is written before.
    """
    changes, incomparable = _changes(report, options)
    gate = Gate(required(options), options.point, files, changes)
    for path in options.out:
        exports.write(report, path, gate)
    if options.mlflow:
        print(f"MLflow run {mlflow.log(report, gate)}")
    for finding in wording.verdict(report):
        print(f"{'ALARM: ' if finding.alarm else ''}{finding.text}")
    missed = requirements.failures(report, gate.required, point=gate.point)
    losses = [] if changes is None else changes.losses
    for line in missed:
        print(f"MISSED: {line}")
    for line in losses:
        print(f"WORSE: {line}")
    if incomparable is not None:
        raise incomparable
    return 2 if not report.sound else 1 if missed or losses else 0


def _changes(report: Report, options: argparse.Namespace) -> tuple[Comparison | None, InvalidInput | None]:
    """What changed since the baseline, or why it cannot be compared; neither without one."""
    if options.baseline is None:
        return None, None
    try:
        return compare(read(options.baseline), report, options.tolerance / 100), None
    except InvalidInput as error:
        return None, error
