"""Options that ``report`` and ``export`` share: files to write, requirements, and an earlier report as baseline."""

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
    """Add the options of every command that ends with a report."""
    parser.add_argument(
        "--out", type=Path, action="append", default=[], metavar="FILE", help=f"{exports.ENDINGS}; may be repeated"
    )
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="LINE",
        help=f"exit 1 if it is not met: {requirements.FORM}; may be repeated",
    )
    parser.add_argument(
        "--point", action="store_true", help="check the share itself, not the lower end of its interval"
    )
    parser.add_argument(
        "--baseline", type=Path, metavar="LAST.json", help="exit 1 if a model got less robust than in this report"
    )
    add_tolerance(parser)
    parser.add_argument("--mlflow", action="store_true", help="record it as a run too, at MLFLOW_TRACKING_URI")


def required(options: argparse.Namespace) -> list[Requirement]:
    """Return the requirements of the command line. Raises InvalidInput."""
    return [requirements.parse(text) for text in options.require]


def check(options: argparse.Namespace) -> None:
    """Raise InvalidInput if an output cannot be written: before an hour of measuring, not after."""
    for path in options.out:
        exports.writer(path)
        if not path.parent.is_dir():
            raise InvalidInput(f"{path}: there is no folder {path.parent}")
    if options.baseline is not None:
        read(options.baseline)
    if options.mlflow:
        mlflow_package.client()


def finish(report: Report, options: argparse.Namespace, files: Mapping[str, str]) -> int:
    """Write the report and print its verdict. Returns 2 for an alarm, 1 for a requirement missed or a loss, else 0.

    Raises InvalidInput if the baseline cannot be compared with it, after the report has been written.
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
    """Return the changes since the baseline, or the error if it cannot be compared; neither without a baseline."""
    if options.baseline is None:
        return None, None
    try:
        return compare(read(options.baseline), report, options.tolerance / 100), None
    except InvalidInput as error:
        return None, error
