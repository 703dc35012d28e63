"""``python -m bench.zoo [--all | NAME ...]``: export, quantise and open architectures; writes docs/zoo.md.

Runs in .venv-zoo (`make zoo`), which has timm. Every export and every opening runs in a process of its own, so that its
memory can be measured, and a crash is only a row of the table. The page is rewritten after each architecture.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from pydantic import ValidationError

from bench.zoo.architectures import ARCHITECTURES, FEW, Architecture
from bench.zoo.page import render
from bench.zoo.records import Opened, Row
from gauntlet import installed_packages
from training.provenance import hardware

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "zoo.md"
LONGEST = 900  # timeout in seconds of one export, or of one opening
PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxscript", installed_packages.onnxruntime(), "onnx2pytorch")


def called(*words: str) -> tuple[str, str | None]:
    """Run a module of this package; return its standard output, and the reason if it failed."""
    try:
        done = subprocess.run(  # noqa: S603  modules of this package
            [sys.executable, "-m", *words], capture_output=True, text=True, check=False, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        return "", f"not done after {LONGEST} s"
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return done.stdout, None if done.returncode == 0 else f"status {done.returncode}: {last}"


def tried(architecture: Architecture, seed: int) -> Iterator[Row]:
    """Export and open an architecture; yield the rows of both files."""
    row = partial(Row, library=architecture.library, name=architecture.name, side=architecture.side)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        words = (architecture.library, architecture.name, str(architecture.side), str(seed), root)
        _, failure = called("bench.zoo.export", *words)
        for form in ("float", "int8"):
            file, reason = folder / f"{form}.onnx", folder / f"{form}.txt"
            if not file.is_file():
                why = reason.read_text() if reason.is_file() else failure or "the exporter wrote no file"
                yield row(form=form, megabytes=None, opened=None, failure=why)
                continue
            size = sum(part.stat().st_size for part in folder.glob(f"{form}.onnx*")) / 1e6
            printed, failure_ = called("bench.zoo.opening", str(file))
            try:
                opened, why_not = Opened.model_validate_json(printed), None
            except ValidationError:
                opened, why_not = None, failure_ or "it printed nothing"
            yield row(form=form, megabytes=size, opened=opened, failure=why_not)


def described(seed: int) -> str:
    """Describe the machine, its load, the versions and the seed."""
    versions = ", ".join(f"{name} {version}" for name, version in installed_packages.versions(PACKAGES).items())
    load = f"load {os.getloadavg()[0]:.1f} before the start"
    return f"{hardware(torch.device('cpu'))} ({load}), Python {platform.python_version()}, {versions}; seed {seed}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.zoo")
    known = [architecture.name for architecture in ARCHITECTURES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"by default {', '.join(FEW)}")
    parser.add_argument("--all", action="store_true", help="every architecture of the list: hours")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    wanted = known if options.all else options.names or list(FEW)
    if unknown := sorted(set(wanted) - set(known)):
        parser.error(f"{', '.join(unknown)}: not in the list: {', '.join(known)}")
    printed, _ = called("bench.zoo.opening", "nothing.onnx")
    machine, base = described(options.seed), Opened.model_validate_json(printed).peak
    rows: list[Row] = []
    for architecture in ARCHITECTURES:
        if architecture.name in wanted:
            found = list(tried(architecture, options.seed))
            sys.stdout.writelines(f"{row.model_dump_json()}\n" for row in found)
            sys.stdout.flush()
            rows += found
            run = {row.name for row in rows}
            options.out.write_text(render(rows, [name for name in known if name not in run], machine, base))


if __name__ == "__main__":
    main()
