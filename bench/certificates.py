"""``python -m bench.certificates``: certified radii of each shipped classifier by each kind of proof, and their cost.

Prints the table of docs/certificates.md: median radii over the first test images that a model classifies correctly, 0
where nothing is proved, and seconds for each image. Each kind of bound has a time limit for an image (--seconds),
attacks included; "all in turn" continues to branch and bound.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.manifest import ClassifierManifest
from gauntlet.certify.smoothing import certify as smooth
from gauntlet.certify.smoothing_parameters import Smoothing
from gauntlet.evaluation import referee
from gauntlet.runtime import classifier
from gauntlet.runtime.classifier import Classifier, OnnxClassifier
from gauntlet.threat import Threat
from gauntlet.verification import images
from training.bound_metrics import by_intervals
from training.data import SOURCES, data_root, load_test, to_pixels

INSIDE = 0.999
SMOOTHING = Smoothing(sigma=0.25, samples=10_000, alpha=0.001)
HEADS = (
    "model",
    "images",
    "Lipschitz, L2",
    "the cube inside it, Linf",
    "smoothing σ 0.25, L2",
    "intervals, Linf",
    "CROWN, Linf",
    "all in turn, Linf",
    "nearest counterexample, Linf",
)
Radius = Callable[[Tensor], float]


def rows(folder: Path, n: int, seconds: float) -> Iterator[str]:
    """Yield a line of the table for each classifier in the folder."""
    for artefact in artefact_folders.load_all(folder).values():
        if isinstance(artefact.manifest, ClassifierManifest):
            model = classifier.open_model(artefact, "cpu")
            assert isinstance(model, OnnxClassifier)
            yield row(model, n, seconds)


def row(model: Classifier, n: int, seconds: float) -> str:
    """Return the line of one model, with cells in the order of HEADS."""
    test = load_test(SOURCES[model.manifest.dataset], data_root())
    right = (model.predict(to_pixels(test.images[: 4 * n])).argmax(1) == test.labels[: 4 * n]).nonzero().squeeze(1)[:n]
    x, y = to_pixels(test.images[right]), test.labels[right]
    radii = model.certificate.radius(model.predict(x))
    across = math.sqrt(x[0].numel())
    proved = ["none", "none"]
    if radii is not None:
        middle = statistics.median(radii.tolist())
        proved = [f"{middle:.3g}", f"{middle / across:.2g}"]
    cells = [model.name, str(len(x)), *proved, timed(smoothed(model), x)]
    budget = {"seconds": seconds * len(x)}
    for methods in (("interval",), ("crown",), images.METHODS):
        started = time.perf_counter()
        verdicts = images.certify(model, x, y, "linf", None, methods=methods, **budget)  # type: ignore[arg-type]
        if verdicts[0].reason:
            return f"| {' | '.join([*cells, verdicts[0].reason, '', '', ''])} |"
        middle = statistics.median(verdict.eps for verdict in verdicts)
        cells.append(f"{middle:.2g} ({(time.perf_counter() - started) / len(x):.2g} s)")
    cells.append(f"{statistics.median(verdict.distance or math.inf for verdict in verdicts):.2g}")
    return f"| {' | '.join(cells)} |"


def smoothed(model: Classifier) -> Radius:
    return lambda x: float(smooth(model.predict, x[None], SMOOTHING).radius[0])


def timed(radius: Radius, x: Tensor) -> str:
    """Return the median radius and the seconds for each image, as text."""
    started = time.perf_counter()
    middle = statistics.median([radius(image) for image in x])
    return f"{middle:.2g} ({(time.perf_counter() - started) / len(x):.2g} s)"


def inside(folder: Path, n: int, seconds: float) -> Iterator[str]:
    """Attack with ``strongest`` at 0.999 of certified distances of models trained for interval bounds.

    Yields for each model how many certified images it breaks: at the eps that the model was trained for, of the first
    20 n test images; and at each image's largest radius that all methods prove in the time limit, of the first n.
    """
    for artefact in artefact_folders.load_all(folder).values():
        manifest = artefact.manifest
        if not isinstance(manifest, ClassifierManifest) or manifest.interval_eps is None:
            continue
        model = classifier.open_model(artefact, "cpu")
        assert isinstance(model, OnnxClassifier)
        test = load_test(SOURCES[manifest.dataset], data_root())
        test = test._replace(images=test.images[: 20 * n], labels=test.labels[: 20 * n])
        x, y = to_pixels(test.images), test.labels
        proved = by_intervals(model, test, manifest.interval_eps)
        broken = attacked(model, x[proved], y[proved], manifest.interval_eps)
        yield f"{model.name} at {INSIDE} of Linf {manifest.interval_eps:.3g}: {broken} of {int(proved.sum())} broken"
        verdicts = images.certify(model, x[:n], y[:n], "linf", None, seconds=seconds * n)
        radii = [(row, verdict.eps) for row, verdict in enumerate(verdicts) if verdict.status == "certified"]
        broken = sum(attacked(model, x[row : row + 1], y[row : row + 1], eps) for row, eps in radii)
        yield f"{model.name} at {INSIDE} of each radius: {broken} of {len(radii)} broken"


def attacked(model: Classifier, x: Tensor, y: Tensor, eps: float) -> int:
    """Count the images that ``strongest`` breaks within 0.999 of eps."""
    return int(referee.run(model, "strongest", x, y, Threat("linf", INSIDE * eps)).success.sum())


def main() -> None:
    """Print the table, or what attacks find inside certificates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=6, help="images of each model (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="time limit of a bound for an image (%(default)s)")
    parser.add_argument("--artifacts", type=Path, default=Path("models/artifacts"))
    parser.add_argument("--inside", action="store_true", help="attack inside certificates instead")
    options = parser.parse_args()
    if options.inside:
        for line in inside(options.artifacts, options.n, options.seconds):
            print(line, flush=True)
        return
    torch.manual_seed(0)
    print(f"| {' | '.join(HEADS)} |\n|{' --- |' * len(HEADS)}", flush=True)
    for line in rows(options.artifacts, options.n, options.seconds):
        print(line, flush=True)
    print(f"\n{options.n} images, {torch.get_num_threads()} threads.", file=sys.stderr)


if __name__ == "__main__":
    main()
