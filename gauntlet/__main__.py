"""``python -m gauntlet``: models, attack, report, and compare, the gate for continuous integration."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError
from tqdm import tqdm

from gauntlet import evalset, library, own, pages, referee, runtime
from gauntlet.adopt.declared import Declared
from gauntlet.attacks import ATTACKS
from gauntlet.errors import GauntletError, InvalidInput
from gauntlet.evalset import EvalSet
from gauntlet.norms import NORMS
from gauntlet.report import gate, statistics, words
from gauntlet.report.builder import build
from gauntlet.report.compare import compare
from gauntlet.report.records import SmoothingSpec
from gauntlet.report.schema import DEFAULT_THREATS, Report, ReportRequest
from gauntlet.runtime import Classifier
from gauntlet.threat import Threat

PROGRESS = "{desc} {percentage:3.0f} % {bar} {elapsed} gone, {remaining} to go"
LOGGED = 30.0  # seconds between two lines of progress in a log
SETTLED = 0.1  # seconds until progress is shown: a mistake is told before


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0; 1 for a requirement missed or a loss found by ``compare``; 2 where something broke;
    130 where somebody interrupted it.

    A check of a report that raises an alarm counts as broken: its figures cannot be believed.
    """
    try:
        options = _parser().parse_args(arguments)
        pages.keep()
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except GauntletError as error:
        sys.stderr.write(f"gauntlet: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("gauntlet: interrupted\n")
        return 130
    except Exception:
        traceback.print_exc()
        return 2


def show_models(options: argparse.Namespace) -> int:
    """Every model with its kind and what is proved of it."""
    for name, model in runtime.open_all(options.root / "artifacts", options.device).items():
        if isinstance(model, Classifier):
            proved = model.certificate.lipschitz
            print(f"{name}\tclassifier\t{'no certificate' if proved is None else f'Lipschitz constant {proved:.4g}'}")
        else:
            print(f"{name}\tgenerator\t{model.manifest.latent_dim} latent dimensions")
    return 0


def attack(options: argparse.Namespace) -> int:
    """Attack the first n images of an evaluation set."""
    [model], images = _opened(options, [options.model])
    if model.manifest.input_shape != images.images.shape[1:]:
        shapes = f"{model.manifest.input_shape}, those of {images.name} are {images.images.shape[1:]}"
        raise InvalidInput(f"{model.name} takes images of the shape {shapes}", "dataset")
    x, y = images.head(options.n)
    params = _fields("params", options.params)
    norm = options.norm or next(norm for norm in ("l2", "linf", *NORMS) if norm in ATTACKS[options.attack].norms)
    outcome = referee.run(model, options.attack, x, y, Threat(norm, options.eps), seed=options.seed, params=params)
    attacked = int(outcome.correct.sum())
    reach = f"{norm} {words.budget(options.eps)}"
    print(f"{options.attack} on {model.name}, {reach}, first {len(x)} images, seed {options.seed}")
    print(f"clean accuracy    {attacked / len(x):.4f}")
    if options.eps is not None:
        print(f"robust accuracy   {int(outcome.robust.sum()) / len(x):.4f}")
    print(f"attack success    {int(outcome.success.sum())} of {attacked} classified correctly at first")
    median = statistics.median(outcome.size(norm)[outcome.correct].numpy())
    print(f"{f'median {norm}':<18}{words.number(median, 4)} of these, a failure counted as infinite")
    print(f"seconds           {outcome.seconds:.1f}")
    return 0


def report(options: argparse.Namespace) -> int:
    """Measure and write a robustness report, and hold it against requirements."""
    requirements = [gate.parse(text) for text in options.require]
    models, images = _opened(options, options.models)
    try:
        request = ReportRequest.model_validate(
            {
                "models": [model.name for model in models],
                "dataset": images.name,
                "n": options.n,
                **({"attacks": options.attacks} if options.attacks else {}),
                "threats": _threats(options.threats, requirements),
                "seed": options.seed,
                "smoothing": None if options.smoothing is None else _fields("smoothing", options.smoothing),
            },
            strict=False,  # words of a command line may stand for numbers
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidInput(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error

    for path in options.out:
        library.writer(path)
        if not path.parent.is_dir():  # known before an hour of measuring, not after
            raise InvalidInput(f"{path}: there is no folder {path.parent}")
    often, form = (0.1, PROGRESS) if sys.stderr.isatty() else (LOGGED, f"{PROGRESS}\n")
    bar = tqdm(total=1.0, desc="report", file=sys.stderr, mininterval=often, delay=SETTLED, bar_format=form)
    with bar:
        made = build(
            request,
            {model.name: model for model in models},
            {images.name: images},
            on_progress=lambda done: bar.update(done - bar.n),
        )
    library.write(made, *options.out)
    for finding in words.verdict(made):
        print(f"{'ALARM: ' if finding.alarm else ''}{finding.text}")
    missed = gate.failures(made, requirements, point=options.point)
    for line in missed:
        print(f"MISSED: {line}")
    return 2 if not made.sound else 1 if missed else 0


def compare_reports(options: argparse.Namespace) -> int:
    """What got better or worse from one report to another; exit status 1 if a model is less robust in the second."""
    before, after = (_read(path) for path in (options.before, options.after))
    found = compare(before, after, options.tolerance / 100)
    for change in (*found.gains, *found.losses):
        print(change)
    if not found.losses:
        print(f"no accuracy dropped by more than {options.tolerance:g} points")
    return 1 if found.losses else 0


def points(text: str) -> float:
    """Percentage points, 0 to 100."""
    if not 0 <= (value := float(text)) <= 100:
        raise ValueError(text)
    return value


def evalsets(options: argparse.Namespace) -> tuple[Path, ...]:
    """The folders of evaluation sets: beside the models, and in GAUNTLET_DATA."""
    return options.root / "evalsets", Path(os.environ.get("GAUNTLET_DATA", "data")) / "evalsets"


def _read(path: Path) -> Report:
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise InvalidInput(f"{path}: is not a robustness report of this version") from error


def _threats(texts: Sequence[str], requirements: Sequence[gate.Requirement]) -> list[dict[str, object]]:
    """What is asked for, and every distance that a requirement speaks of."""
    asked: dict[str, list[float]] = {}
    for text in texts:
        norm, _, values = text.partition("=")
        try:
            asked.setdefault(norm, []).extend(gate.fraction(value) for value in values.split(","))
        except InvalidInput as error:
            raise InvalidInput(f"--threats {text}: write it as {NORMS[0]}=0.1,8/255") from error
    for requirement in requirements:
        if requirement.norm and requirement.eps and requirement.eps not in asked.setdefault(requirement.norm, []):
            asked[requirement.norm].append(requirement.eps)
    return [{"norm": norm, "eps": eps} for norm, eps in asked.items()]


def _fields(option: str, texts: Sequence[str]) -> dict[str, str]:
    """FIELD=VALUE words; a schema reads the values."""
    if wrong := [text for text in texts if "=" not in text]:
        raise InvalidInput(f"--{option} {wrong[0]}: write it as FIELD=VALUE")
    return dict(text.split("=", 1) for text in texts)


def _opened(options: argparse.Namespace, names: Sequence[str]) -> tuple[list[Classifier], EvalSet]:
    """The classifiers, each by its name or from its file, and the images."""
    said, brought = own.declared(options.declare), own.is_images(options.dataset)
    of_a_model = said.keys() - ({"classes"} if brought else set())  # images have classes too
    if of_a_model and not any(map(own.is_model, names)):
        message = (
            f"--declare {min(of_a_model)} is about a model's own file (*.onnx); a shipped model's manifest says it"
        )
        raise InvalidInput(message, "declare")
    images = own.images(options.dataset, said.get("classes")) if brought else None
    shipped = [name for name in names if not own.is_model(name)]
    found = runtime.open_all(options.root / "artifacts", options.device, only=shipped) if shipped else {}
    models = []
    for name in names:
        model = own.classifier(name, said, images, options.device) if own.is_model(name) else found[name]
        if not isinstance(model, Classifier):
            raise InvalidInput(f"{name} is a generator; attacks and reports need a classifier", "model")
        models.append(model)
    return models, _shipped_images(options, models[0]) if images is None else own.named(images, models[0])


def _shipped_images(options: argparse.Namespace, model: Classifier) -> EvalSet:
    name, paths = options.dataset or model.manifest.dataset, evalset.find(evalsets(options))
    if name == library.OWN:
        raise InvalidInput("say which images: --dataset NAME, or an .npz file with images and labels", "dataset")
    if name not in paths:
        raise InvalidInput(evalset.missing(name, paths), "dataset")
    return evalset.load(paths[name])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gauntlet", description="Image models whose robustness is known.")
    folder = Path(os.environ.get("GAUNTLET_MODELS", "models"))
    parser.add_argument("--root", type=Path, default=folder, help="folder with artifacts/ and evalsets/ (%(default)s)")
    device = os.environ.get("GAUNTLET_DEVICE", "auto")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default=device)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("models", help=show_models.__doc__)
    listing.set_defaults(command=show_models)

    one = commands.add_parser("attack", help=attack.__doc__)
    one.add_argument("model", help="name, or an *.onnx file")
    one.add_argument("attack", choices=list(ATTACKS))
    one.add_argument("--norm", choices=NORMS, help="default: l2 where the attack works in it, else linf")
    one.add_argument(
        "--eps", type=gate.fraction, help="in pixels of [0, 1], e.g. 8/255; minimum-norm attacks need none"
    )
    one.add_argument(
        "--params",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="parameters of the attack; a wrong name lists those there are",
    )
    one.set_defaults(command=attack)

    usual = [f"{threat['norm']}={','.join(map(str, threat['eps']))}" for threat in DEFAULT_THREATS]
    many = commands.add_parser("report", help=report.__doc__)
    many.add_argument("--models", "--model", nargs="+", required=True, metavar="MODEL", help="names, or *.onnx files")
    many.add_argument("--attacks", nargs="+", choices=list(ATTACKS), help="by default a few for each norm")
    many.add_argument("--threats", nargs="+", default=usual, metavar="NORM=EPS,...", help=f"default: {' '.join(usual)}")
    many.add_argument("--out", type=Path, action="append", default=[], help="*.html or *.json; may be repeated")
    many.add_argument(
        "--require", action="append", default=[], metavar="LINE", help=f"exit 1 where it does not hold: {gate.FORM}"
    )
    many.add_argument(
        "--smoothing",
        nargs="*",
        metavar="FIELD=VALUE",
        help=f"certify the smoothed classifiers too; fields: {', '.join(SmoothingSpec.model_fields)}",
    )
    many.add_argument("--point", action="store_true", help="hold the share itself against --require, not the interval")
    many.set_defaults(command=report)
    for command in (one, many):
        command.add_argument(
            "--dataset", help="evaluation set, or a file: *.npz of images and labels, *.zip; default: the model's own"
        )
        command.add_argument(
            "--declare",
            nargs="+",
            default=[],
            metavar="FIELD=VALUE",
            help=f"what is not to be guessed of *.onnx files; fields: {', '.join(Declared.model_fields)}",
        )
        command.add_argument("--n", type=int, default=100, help="first n images (%(default)s)")
        command.add_argument("--seed", type=int, default=0)

    compared = commands.add_parser("compare", help=compare_reports.__doc__)
    compared.add_argument("before", type=Path)
    compared.add_argument("after", type=Path)
    compared.add_argument("--tolerance", type=points, default=1.0, help="points that count as no change (%(default)s)")
    compared.set_defaults(command=compare_reports)
    return parser


if __name__ == "__main__":
    sys.exit(main())
