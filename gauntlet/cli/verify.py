"""``gauntlet verify``: decide a property in VNN-LIB, as in the verification competition."""

import argparse
from pathlib import Path

from gauntlet.cli.inputs import positive
from gauntlet.verification import properties


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("network", type=Path, metavar="NETWORK.onnx")
    parser.add_argument("property", type=Path, metavar="PROPERTY.vnnlib")
    parser.add_argument("--seconds", type=positive, default=60.0, help="time limit (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)


def run(options: argparse.Namespace) -> int:
    """Print the verdict. Returns 0. Raises InvalidInput."""
    verdict = properties.verify(options.network, options.property, options.seconds, options.seed)
    print(verdict.text())
    return 0
