"""``python -m bench.zoo.opening FILE``: open one file as the library does, and print the result as JSON."""

import resource
import sys
import time
from pathlib import Path

import gauntlet
from bench.zoo.records import Opened
from gauntlet.errors import GauntletError


def opened(path: Path) -> Opened:
    """Open the file; return seconds, without imports, and the peak memory of this process, with imports."""
    from gauntlet import python_api  # noqa: F401, PLC0415  imports torch, before the timing starts

    start = time.perf_counter()
    try:
        model = gauntlet.open_classifier(path, device="cpu")
        gradients, refused = model.manifest.gradients, None
    except (GauntletError, OSError) as error:
        gradients, refused = None, str(error)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    return Opened(seconds=seconds, peak=peak, gradients=gradients, refused=refused)


def main() -> None:
    sys.stdout.write(opened(Path(sys.argv[1])).model_dump_json())


if __name__ == "__main__":
    main()
