"""``python -m bench.serving.soak``: the requests of ``bench.serving.mixed`` for ten minutes, during reports.

Memory is that of the service and its worker together, measured between rounds. The first third is the warm-up: by then
the worker has computed enough reports for torch's buffers to have their final size.
"""

import argparse
import sys

from bench.serving import load
from bench.serving.beside import submit
from bench.serving.mixed import GENERATOR, GROWTH, MODELS, faults, grown, mixture, told
from bench.serving.servers import gauntlet, running, workplace


def main() -> None:
    """Print a line per round. Exit status 1 for a wrong answer, or if memory grew too much since the warm-up."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    asks, found = mixture(), list[str]()
    with workplace() as folder:
        variant = gauntlet(folder, [*MODELS, GENERATOR], local_workers=1)
        with running(variant, folder / "log") as server:
            before = 0
            for number in range(options.rounds + 1):
                submit(server.port, MODELS, n=64)
                tally = load.run(server.port, asks, options.connections, seconds=60 * options.minutes / options.rounds)
                found += faults(tally)
                if number <= options.rounds // 3:
                    before = server.memory()
                print(f"round {number}: {told(tally)}; {grown(server, before)}", flush=True)
            if server.memory() > GROWTH * before:
                found.append(f"memory grew by more than {GROWTH - 1:.0%}")
    print("; ".join(found) or "as it should be")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
