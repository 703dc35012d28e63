"""``make gpu-check``: which device computes here, does it agree with the CPU, and how fast is it?

Prints the providers, and for a few shipped models: the largest difference between the device's logits and the CPU's,
and how many images a second are classified, generated and attacked. Exit status 1 if they differ by more than the
rounding that a certificate allows for.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import onnxruntime as ort
import torch

from gauntlet.artifacts import artefact_folders, evaluation_sets
from gauntlet.certify.lipschitz import ROUNDING
from gauntlet.errors import GauntletError
from gauntlet.evaluation import referee
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.runtime import classifier
from gauntlet.runtime.classifier import Generator, OnnxClassifier
from gauntlet.runtime.served import Device
from gauntlet.threat import Threat
from training.provenance import hardware

M = TypeVar("M", OnnxClassifier, Generator)

MODELS = Path(__file__).resolve().parent.parent / "models"
CLASSIFIERS = "fashion-mnist-standard", "fashion-mnist-lipschitz"
GENERATOR = "fashion-mnist-vae"
N, STEPS = 1024, 20
ALLOWED = 100 * ROUNDING  # relative to the largest logit: two devices, each with the rounding of a long sum


def rate(work: Callable[[], object], n: int, seconds: float) -> float:
    """Return images a second: repeat work on n images for this many seconds, after one run that is not counted."""
    work()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        done += n
    return done / (time.perf_counter() - start)


def check_classifier(name: str, device: Device, n: int, seconds: float) -> float:
    """Print agreement and speed; return the largest difference from the CPU's logits, relative to the largest logit."""
    here, there = (_open(name, place, OnnxClassifier) for place in (device, "cpu"))
    x, y = map(torch.from_numpy, evaluation_sets.load(MODELS / "evalsets" / "fashion-mnist.npz").head(n))
    logits = there.predict(x)
    gap = float((here.predict(x) - logits).abs().max() / logits.abs().max())
    classified = [rate(partial(here.predict, x[:size]), size, seconds) for size in (1, 64, n)]
    steps = {"steps": STEPS}
    attacked = rate(lambda: referee.run(here, "pgd", x, y, Threat("linf", 1e-4), params=steps), n * STEPS, seconds)
    speeds = ", ".join(f"{speed:,.0f}" for speed in classified)
    print(f"{name} on {here.device.type}: differs by {gap:.2g} of the largest logit")
    print(
        f"    classifies {speeds} images/s in batches of 1, 64 and {n}; {attacked:,.0f} PGD steps of an image a second"
    )
    return gap


def check_generator(name: str, device: Device, n: int, seconds: float) -> float:
    """Print the same for a generator; return the largest difference of a pixel."""
    here, there = (_open(name, place, Generator) for place in (device, "cpu"))
    latents = KeyedRandom.span(0, 0, n).normal(0, (here.manifest.latent_dim,))
    gap = float((here.generate(latents) - there.generate(latents)).abs().max())
    made = rate(lambda: here.generate(latents), n, seconds)
    print(f"{name} on {here.device.type}: differs by {gap:.2g} in a pixel; generates {made:,.0f} images/s")
    return gap


def _open(name: str, device: Device, kind: type[M]) -> M:
    model = classifier.open_model(artefact_folders.load(MODELS / "artifacts" / name), device)
    assert isinstance(model, kind)
    return model


def main(arguments: Sequence[str] | None = None) -> int:
    """Print everything. Return 1 if the device disagrees with the CPU, 2 if the requested device is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.device", description=__doc__)
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--n", type=int, default=N, help="images (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (%(default)s)")
    options = parser.parse_args(arguments)
    print(f"onnxruntime {ort.__version__}: {', '.join(ort.get_available_providers())}")
    try:
        place = classifier.choose_device(options.device)
        device: Device = "cuda" if place.type == "cuda" else "cpu"
        print(f"torch {torch.__version__}: {hardware(place)}")
        gaps = [check_classifier(name, device, options.n, options.seconds) for name in CLASSIFIERS]
        gaps.append(check_generator(GENERATOR, device, options.n, options.seconds))
    except GauntletError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if device == "cuda":
        free, whole = torch.cuda.mem_get_info()
        print(f"memory of the GPU: {(whole - free) / 2**30:.1f} of {whole / 2**30:.1f} GiB in use")
    return int(max(gaps) > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
