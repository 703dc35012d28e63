"""``gauntlet certify``: a verdict for each image."""

import argparse
import sys
from collections import Counter

import torch

from gauntlet.cli.inputs import add_input_options, open_inputs, positive
from gauntlet.errors import InvalidInput
from gauntlet.report import requirements
from gauntlet.verification import images


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", help="name, or an *.onnx file")
    parser.add_argument("--norm", choices=("linf", "l2"), default="linf", help="%(default)s")
    parser.add_argument(
        "--eps",
        type=lambda text: text if text == "largest" else requirements.fraction(text),
        required=True,
        help="in pixels of [0, 1], e.g. 8/255; largest: the largest radius that can be certified",
    )
    parser.add_argument(
        "--method",
        choices=("auto", *images.METHODS),
        default="auto",
        help="%(default)s: all, from the cheapest to the most expensive",
    )
    parser.add_argument("--seconds", type=positive, default=60.0, help="time for all images together (%(default)s)")
    add_input_options(parser)


def run(options: argparse.Namespace) -> int:
    """Prove or refute, image by image, that nothing within eps changes the class."""
    [model], evalset = open_inputs(options, [options.model])
    if model.manifest.input_shape != evalset.images.shape[1:]:
        raise InvalidInput(
            f"{model.name} takes images of the shape {model.manifest.input_shape}, "
            f"those of {evalset.name} are {evalset.images.shape[1:]}",
            "dataset",
        )
    x, y = map(torch.from_numpy, evalset.head(options.n))
    eps = None if options.eps == "largest" else options.eps
    methods = images.METHODS if options.method == "auto" else (options.method,)
    verdicts = images.certify(
        model, x, y, options.norm, eps, methods=methods, seconds=options.seconds, seed=options.seed
    )
    if verdicts[0].reason:
        sys.stderr.write(f"{model.name} can be attacked, but not bounded: {verdicts[0].reason}\n")
    for number, verdict in enumerate(verdicts):
        distance = "" if verdict.distance is None else f"\tcounterexample at {verdict.distance:.6g}"
        bound = "" if verdict.bound is None else f"\tmargin {verdict.bound:+.4g}"
        print(
            f"{number}\t{verdict.status}\t{options.norm} {verdict.eps:.6g}\t{verdict.method}"
            f"{bound}{distance}\t{verdict.seconds:.1f} s"
        )
    counts = Counter(verdict.status for verdict in verdicts)
    print(", ".join(f"{counts[status]} {status}" for status in ("certified", "falsified", "unknown")))
    return 0
