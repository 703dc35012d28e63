"""``python -m bench.busy``: run the tests repeatedly while other processes keep every core busy.

Prints one line per run: outcome, duration, pytest's summary. Exit status 1 if any run failed. All output is in
dist/busy.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gauntlet.runtime.core_count import available

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "dist" / "busy"
LOOP = "while True: pass"


@contextmanager
def occupied(loops: int) -> Iterator[None]:
    """Run this many busy-looping processes during the block."""
    with ExitStack() as stack:
        for _ in range(loops):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", LOOP]))  # noqa: S603  only ours
            stack.callback(process.kill)
        yield


def run(command: list[str], log: Path) -> tuple[bool, str]:
    """Run the command; return whether it succeeded, and pytest's last summary line (the one framed by ``=``)."""
    with log.open("w") as output:
        status = subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, check=False).returncode  # noqa: S603
    framed = [line.strip("= ") for line in log.read_text().splitlines() if line.startswith("=") and line.endswith("=")]
    return status == 0, (framed or ["no summary"])[-1]


def main(arguments: list[str] | None = None) -> int:
    """Run the command repeatedly; return 0 if every run succeeded, else 1."""
    parser = argparse.ArgumentParser(prog="python -m bench.busy", description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="how often (%(default)s)")
    parser.add_argument("--loops", type=int, default=available(), help="busy processes beside it (%(default)s)")
    parser.add_argument("command", nargs="*", default=["make", "test"], help="the command to run (make test)")
    options = parser.parse_args(arguments)
    LOGS.mkdir(parents=True, exist_ok=True)
    failed = 0
    with occupied(options.loops):
        for number in range(1, options.runs + 1):
            started = time.monotonic()
            green, last = run(options.command, LOGS / f"{number}.log")
            failed += not green
            print(
                f"run {number}: {'green' if green else 'FAILED'}, {time.monotonic() - started:.0f} s: {last}",
                flush=True,
            )
    print(f"{options.runs - failed} of {options.runs} runs were green beside {options.loops} busy processes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
