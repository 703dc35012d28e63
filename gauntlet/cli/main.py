"""The ``gauntlet`` command: chooses a subcommand and maps its errors to exit statuses."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from gauntlet import installed_packages
from gauntlet.errors import GauntletError
from gauntlet.runtime import memory
from gauntlet.version import __version__

COMMANDS: Mapping[str, str] = {
    "models": "List every model with its kind and its proved Lipschitz constant.",
    "attack": "Attack the first n images of an evaluation set.",
    "certify": "Prove or refute, image by image, that nothing within eps changes the class.",
    "verify": "Decide a VNN-LIB property of an ONNX network: sat with a witness, unsat, unknown or timeout.",
    "report": "Measure and write a robustness report, and check it against requirements.",
    "export": "Write a report for another tool, or check it against requirements, without measuring again.",
    "compare": "What got better or worse from one report to another; exit status 1 if a model got less robust.",
}
"""Description of each command. ``gauntlet.cli.NAME`` has its options and runs it; it is imported only when needed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0; 1 if a requirement is missed or a model got less robust; 2 after an error; 130 if the
    user interrupted it.

    An alarm of a report's check counts as an error: the figures cannot be believed.
    """
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except GauntletError as error:
        sys.stderr.write(f"gauntlet: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("gauntlet: interrupted\n")
        return 130
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and (advice := installed_packages.advice(error)):
            sys.stderr.write(f"gauntlet: {advice}\n")
        else:
            traceback.print_exc()
        return 2


def _run(arguments: Sequence[str]) -> int:
    options = parser_for(arguments).parse_args(arguments)
    memory.keep()
    command: Callable[[argparse.Namespace], int] = options.command
    return command(options)


def parser_for(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of these arguments; only the commands that they name have their options added."""
    parser = argparse.ArgumentParser(prog="gauntlet", description="Attack, certify and report on image classifiers.")
    parser.add_argument("--version", action="version", version=f"gauntlet {__version__}")
    folder = Path(os.environ.get("GAUNTLET_MODELS", "models"))
    parser.add_argument("--root", type=Path, default=folder, help="folder with artifacts/ and evalsets/ (%(default)s)")
    device = os.environ.get("GAUNTLET_DEVICE", "auto")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default=device)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, description in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        if name in arguments:
            module = import_module(f"gauntlet.cli.{name}")
            module.add(command)
            command.set_defaults(command=module.run)
    return parser
