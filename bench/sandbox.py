"""``python -m bench.sandbox``: what does the confinement of uploads cost?

Measures the milliseconds from the request for a child process to its first answer, and of one prediction of an uploaded
model, alternately with and without confinement. ``python -m bench.sandbox FD`` is a fork server without confinement.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import torch

from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.sandbox import confinement, fork_server, fork_server_main
from gauntlet.sandbox.fork_server import ForkServer, Work
from gauntlet.sandbox.sandboxed_classifier import SandboxedClassifier, adopt, open_sandboxed

FILE = Path(__file__).resolve().parents[1] / "models" / "artifacts" / "fashion-mnist-standard" / "model.onnx"
MODES = "confined", "unconfined"
BATCH = 64  # images of the larger prediction


@contextmanager
def fork_servers() -> Iterator[dict[str, ForkServer]]:
    """Start one fork server of each mode, and stop them after the block."""
    confining = fork_server.SERVER_MODULE
    made: dict[str, ForkServer] = {}
    with ExitStack() as stack:
        stack.callback(setattr, fork_server, "SERVER_MODULE", confining)
        for mode, module in zip(MODES, (confining, "bench.sandbox"), strict=True):
            fork_server.SERVER_MODULE = module
            made[mode] = stack.enter_context(closing(ForkServer()))
            for work in ("files", "models"):
                start(made[mode], work)
        yield made


def start(server: ForkServer, work: Work) -> float:
    """Return the milliseconds until a new child answers (to a request that it does not know)."""
    begun = time.perf_counter()
    child = server.child(work)
    child.ask({"ask": "nothing"}, seconds=60)
    taken = time.perf_counter() - begun
    child.close()
    return 1000 * taken


def predict(model: SandboxedClassifier, images: torch.Tensor) -> float:
    """Return the milliseconds of one prediction."""
    begun = time.perf_counter()
    model.predict(images)
    return 1000 * (time.perf_counter() - begun)


def compare(name: str, measured: dict[str, partial[float]], repeats: int) -> None:
    """Print the medians of alternating measurements, so that other load on the machine slows both modes."""
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    for turn in range(repeats):
        for mode in MODES[:: 1 if turn % 2 else -1]:
            found[mode].append(measured[mode]())
    confined, free = (statistics.median(found[mode]) for mode in MODES)
    print(
        f"{name}: {confined:.3f} ms confined, {free:.3f} without: {confined - free:+.3f} ms, {confined / free - 1:+.1%}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sandbox", description=__doc__)
    parser.add_argument("--starts", type=int, default=50, help="children of each kind and mode")
    parser.add_argument("--predictions", type=int, default=2000, help="of each size and mode")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with fork_servers() as servers, ExitStack() as stack:
        for work in ("files", "models"):
            compare(f"start of a child for {work}", {m: partial(start, servers[m], work) for m in MODES}, chosen.starts)
        graph = stack.enter_context(tempfile.TemporaryFile())
        with FILE.open("rb") as file:
            manifest = adopt(servers["confined"], file, ModelSettings(name="bench"), graph=graph)
        models = {m: stack.enter_context(closing(open_sandboxed(servers[m], graph, manifest))) for m in MODES}
        for count in (1, BATCH):
            images = torch.rand(count, *manifest.input_shape, generator=torch.Generator().manual_seed(0))
            measured = {mode: partial(predict, models[mode], images) for mode in MODES}
            compare(f"prediction of {count} image{'s' * (count > 1)}", measured, chosen.predictions)
    return 0


def serve_unconfined() -> None:
    def leave(folder: str) -> None: ...

    confinement.confine = leave
    fork_server_main.main()


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].isdigit():
        serve_unconfined()
    else:
        sys.exit(main())
