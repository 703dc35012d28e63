"""``gauntlet attack``: attack the first images of an evaluation set."""

import argparse

import torch

from gauntlet.attacks import ATTACKS
from gauntlet.cli.inputs import add_input_options, fields, open_inputs
from gauntlet.errors import InvalidInput
from gauntlet.evaluation import referee
from gauntlet.norms import NORMS
from gauntlet.report import requirements, statistics, wording
from gauntlet.threat import Threat


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", help="name, or an *.onnx file")
    parser.add_argument("attack", choices=list(ATTACKS))
    parser.add_argument(
        "--norm", choices=NORMS, help="default: the first of l2, linf, l1 and l0 that the attack supports"
    )
    parser.add_argument(
        "--eps", type=requirements.fraction, help="in pixels of [0, 1], e.g. 8/255; minimum-norm attacks need none"
    )
    parser.add_argument(
        "--params",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="parameters of the attack; an unknown name prints the valid ones",
    )
    add_input_options(parser)


def run(options: argparse.Namespace) -> int:
    """Attack the images and print accuracies and distances. Returns 0. Raises InvalidInput."""
    [model], images = open_inputs(options, [options.model])
    if model.manifest.input_shape != images.images.shape[1:]:
        shapes = f"{model.manifest.input_shape}, those of {images.name} are {images.images.shape[1:]}"
        raise InvalidInput(f"{model.name} takes images of the shape {shapes}", "dataset")
    x, y = map(torch.from_numpy, images.head(options.n))
    params = fields("params", options.params)
    norm = options.norm or next(norm for norm in ("l2", "linf", *NORMS) if norm in ATTACKS[options.attack].norms)
    outcome = referee.run(model, options.attack, x, y, Threat(norm, options.eps), seed=options.seed, params=params)
    attacked = int(outcome.correct.sum())
    reach = f"{norm} {wording.budget(options.eps)}"
    print(f"{options.attack} on {model.name}, {reach}, first {len(x)} images, seed {options.seed}")
    print(f"clean accuracy    {attacked / len(x):.4f}")
    if options.eps is not None:
        print(f"robust accuracy   {int(outcome.robust.sum()) / len(x):.4f}")
    print(f"attack success    {int(outcome.success.sum())} of {attacked} classified correctly at first")
    median = statistics.median(outcome.size(norm)[outcome.correct].numpy())
    print(f"{f'median {norm}':<18}{wording.number(median, 4)} of these, a failure counted as infinite")
    print(f"seconds           {outcome.seconds:.1f}")
    return 0
