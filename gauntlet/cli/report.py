"""``gauntlet report``: measure a report, write it, and check it against requirements."""

import argparse
import sys
from collections.abc import Sequence

from pydantic import ValidationError
from tqdm import tqdm

from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.artifacts.manifest import MODEL_FILE
from gauntlet.attacks import ATTACKS
from gauntlet.cli import outputs, user_files
from gauntlet.cli.inputs import add_input_options, fields, open_inputs, positive
from gauntlet.errors import InvalidInput
from gauntlet.norms import NORMS
from gauntlet.report import requirements, time_budget
from gauntlet.report.build import build
from gauntlet.report.records import BoundsSpec, SmoothingSpec
from gauntlet.report.requirements import Requirement
from gauntlet.report.schema import DEFAULT_THREATS, ReportRequest
from gauntlet.runtime.classifier import Classifier

PROGRESS = "{desc} {percentage:3.0f} % {bar} {elapsed} elapsed, {remaining} left"
LOGGED = 30.0  # seconds between two lines of progress in a log
SETTLED = 0.1  # seconds until progress is shown: errors in the request are printed before


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    usual = [f"{threat['norm']}={','.join(map(str, threat['eps']))}" for threat in DEFAULT_THREATS]
    parser.add_argument("--models", "--model", nargs="+", required=True, metavar="MODEL", help="names, or *.onnx files")
    parser.add_argument("--attacks", nargs="+", choices=list(ATTACKS), help="by default a few for each norm")
    parser.add_argument(
        "--threats", nargs="+", default=usual, metavar="NORM=EPS,...", help=f"default: {' '.join(usual)}"
    )
    parser.add_argument(
        "--smoothing",
        nargs="*",
        metavar="FIELD=VALUE",
        help=f"certify the smoothed classifiers too; fields: {', '.join(SmoothingSpec.model_fields)}",
    )
    parser.add_argument(
        "--bounds",
        type=int,
        nargs="?",
        const=BoundsSpec().images,
        metavar="IMAGES",
        help="prove robustness, in linf and l2: by intervals for all images, by CROWN for the first (%(const)s)",
    )
    parser.add_argument(
        "--minutes",
        type=positive,
        help="plan a report of about this length: fewer images, then fewer attacks; the verdict says what is left out",
    )
    outputs.add_output_options(parser)
    add_input_options(parser)


def run(options: argparse.Namespace) -> int:
    """Measure the report and write it. Returns the exit status of ``outputs.finish``. Raises InvalidInput."""
    required = outputs.required(options)
    models, images = open_inputs(options, options.models)
    try:
        request = ReportRequest.model_validate(
            {
                "models": [model.name for model in models],
                "dataset": images.name,
                "n": options.n,
                **({"attacks": options.attacks} if options.attacks else {}),
                "threats": threats(options.threats, required),
                "seed": options.seed,
                "smoothing": None if options.smoothing is None else fields("smoothing", options.smoothing),
                "bounds": None if options.bounds is None else {"images": options.bounds},
            },
            strict=False,  # numbers come as text from a command line
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidInput(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error

    outputs.check(options)
    left_out: tuple[str, ...] = ()
    if options.minutes is not None:
        request, left_out = _within(request, models, images, 60 * options.minutes)
    pause, layout = (0.1, PROGRESS) if sys.stderr.isatty() else (LOGGED, f"{PROGRESS}\n")
    bar = tqdm(total=1.0, desc="report", file=sys.stderr, mininterval=pause, delay=SETTLED, bar_format=layout)
    with bar:
        made = build(
            request,
            {model.name: model for model in models},
            {images.name: images},
            on_progress=lambda done: bar.update(done - bar.n),
        )
    made = made.model_copy(update={"left_out": list(left_out)})
    return outputs.finish(made, options, _files(options, models))


def _files(options: argparse.Namespace, models: Sequence[Classifier]) -> dict[str, str]:
    """Return the path of each model's file, by the model's name."""
    return {
        model.name: name if user_files.is_model(name) else str(options.root / "artifacts" / name / MODEL_FILE)
        for name, model in zip(options.models, models, strict=True)
    }


def _within(
    request: ReportRequest, models: Sequence[Classifier], images: EvalSet, seconds: float
) -> tuple[ReportRequest, tuple[str, ...]]:
    """Return the request cut to the time, and what that leaves out; print the plan to standard error."""
    request = request.model_copy(update={"n": min(request.n, len(images.labels)), "budget_seconds": seconds})
    planned = time_budget.planned(request, {model.name: model for model in models}, images)
    names = ", ".join(planned.request.attacks)
    sys.stderr.write(f"plan: {planned.request.n} images, {names}; about {planned.seconds:.0f} s of {seconds:.0f} s\n")
    return planned.request, planned.left_out


def threats(texts: Sequence[str], required: Sequence[Requirement]) -> list[dict[str, object]]:
    """Return the threats of the options, with every eps that a requirement names. Raises InvalidInput."""
    requested: dict[str, list[float]] = {}
    for text in texts:
        norm, _, values = text.partition("=")
        try:
            requested.setdefault(norm, []).extend(requirements.fraction(value) for value in values.split(","))
        except InvalidInput as error:
            raise InvalidInput(f"--threats {text}: write it as {NORMS[0]}=0.1,8/255") from error
    for requirement in required:
        if requirement.norm and requirement.eps and requirement.eps not in requested.setdefault(requirement.norm, []):
            requested[requirement.norm].append(requirement.eps)
    return [{"norm": norm, "eps": eps} for norm, eps in requested.items()]
