"""``python -m training``: the data sets, the evaluation set, and every model of this repository."""

import argparse
import json
import math
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.manifest import TrainingRecord
from gauntlet.errors import ArtefactError, GauntletError
from gauntlet.runtime.twin import open_twin
from training import provenance
from training.classifier import defended
from training.classifier_config import ClassifierConfig
from training.data import (
    SOURCES,
    DataError,
    DataSource,
    Examples,
    data_root,
    download,
    load_other,
    load_test,
    load_training,
)
from training.evalset import write_evalset
from training.export import ExportError, publish
from training.recipes import RECIPES
from training.run import CHECKPOINT_FILE, JobConfig, Run, RunError
from training.table import table
from training.update_exported import calibrate_all, rewrite_cards

ARTIFACTS = Path("models/artifacts")
EVALSETS = Path("models/evalsets")
RUNS = Path("runs")
LISTED = {"name", "epochs"}  # the fields that `list` prints in columns of their own


def configure(recipe: str, changes: dict[str, Any]) -> JobConfig:
    """Return the named recipe's configuration with some fields changed.

    Raises:
        RunError: a field does not exist, or its value is not allowed.
    """
    config = RECIPES[recipe].config
    try:
        return type(config).model_validate(config.model_dump() | changes)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise RunError(f"{field}: {first['msg']}; fields are {', '.join(type(config).model_fields)}") from error


def device_of(word: str) -> torch.device:
    """Return the device for ``cuda``, ``cpu`` or ``auto``, which is the GPU if torch sees one.

    Raises:
        RunError: a GPU was requested, but torch sees none.
    """
    if word == "cuda" and not torch.cuda.is_available():
        raise RunError("--device cuda: torch sees no GPU here; use --device cpu or auto")
    torch.backends.cudnn.deterministic = True  # so that the seed determines the result on a GPU too
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if word != "cpu" and torch.cuda.is_available() else "cpu")


def train(options: argparse.Namespace) -> None:
    """Train a recipe and, unless --trial is given, measure the model on the test set and export it."""
    recipe = RECIPES[options.recipe]
    given = {key: value for key in ("name", "epochs", "seed") if (value := getattr(options, key)) is not None}
    config = configure(options.recipe, dict(options.set) | given)
    source, root = SOURCES[config.dataset], data_root()
    data = load_training(source, root)
    if not data.train.official:
        print(
            f"note: these are not the official files of {source.name}; manifest and card will say so", file=sys.stderr
        )
    folder = options.runs / (f"{config.name}.trial" if options.trial else config.name)
    device = device_of(options.device)
    run = Run(folder, config, device=device, artifacts=options.out, resume=options.resume, limit=options.limit)
    commit = provenance.commit()
    trained = recipe.train(config, data, run)
    if options.trial:
        best = run.history[run.best_epoch - 1]
        print(json.dumps({"name": config.name, "epoch": run.best_epoch, "epoch_seconds": run.epoch_seconds, **best}))
        return
    test = load_test(source, root)
    record = TrainingRecord(
        command=command_of(options.recipe, dict(options.set) | given),
        config=config.model_dump(mode="json"),
        seed=config.seed,
        epochs=len(run.history),
        selected_epoch=run.best_epoch,
        commit=commit,
        data_sha256=data.train.sha256,
        test_sha256=test.sha256,
        data_official=data.train.official and test.official,
        builds_on=digests(config, options.out),
        hardware=provenance.hardware(run.device),
        seconds=round(run.seconds, 1),
        versions=provenance.versions(),
    )
    product = recipe.package(trained, config, data, run, test)
    manifest = publish(product, options.out / config.name, record)
    for name, metric in manifest.metrics.items():
        print(f"{name} = {metric.value:.4f} (n = {metric.n}, {metric.split})")
    print(f"{options.out / config.name} is in place")


def digests(config: JobConfig, artifacts: Path) -> dict[str, str]:
    """Return the sha256 of each artefact that the job builds on, by name."""
    return {name: artefact_folders.load(artifacts / name).manifest.model_sha256 for name in config.builds_on}


def train_all(options: argparse.Namespace) -> None:
    """Train every recipe that has no up-to-date artefact yet, resuming interrupted runs.

    Raises:
        RunError: some recipes failed; the others were trained.
    """
    missing = [name for name, recipe in RECIPES.items() if not is_done(options.out / name, recipe.config)]
    done = len(RECIPES) - len(missing)
    print(f"{done} of {len(RECIPES)} models are done; left: {', '.join(missing) or 'none'}", flush=True)
    failed = []
    for name in missing:
        started = (options.runs / name / CHECKPOINT_FILE).is_file()
        arguments = ["train", name, "--device", options.device, "--runs", str(options.runs), "--out", str(options.out)]
        try:
            train(parser().parse_args([*arguments, "--resume"] if started else arguments))
        except (RunError, ExportError, GauntletError) as error:
            print(f"error: {name}: {error}", file=sys.stderr, flush=True)
            failed.append(name)
    if failed:
        raise RunError(f"not trained: {', '.join(failed)}; the reasons are above")


def spread(options: argparse.Namespace) -> None:
    """Train a recipe with several seeds, and print mean, minimum and maximum of their validation metrics."""
    recipe, results = RECIPES[options.recipe], list[dict[str, float]]()
    for seed in range(options.seeds):
        is_default = seed == recipe.config.seed
        shipped = validated(options.out / options.recipe, recipe.config) if is_default else {}
        results.append(
            shipped or validate(options, seed, name=options.recipe if is_default else f"{options.recipe}.seed{seed}")
        )
    print(f"## Seeds 0 to {options.seeds - 1} of `{options.recipe}`\n")
    print("The epoch of each is chosen on the validation images, and the figures are of these.\n")
    print("| figure | mean | lowest | highest |\n| --- | --- | --- | --- |")
    for name in (name for name in results[0] if all(name in record for record in results)):
        values = [record[name] for record in results]
        figures = (f"{figure:.4f}" for figure in (statistics.fmean(values), min(values), max(values)))
        print(f"| {name.removeprefix('validation_')} | {' | '.join(figures)} |")


def validate(options: argparse.Namespace, seed: int, name: str) -> dict[str, float]:
    """Train a recipe with a seed, resuming from its checkpoint if there is one; return the best epoch's metrics."""
    config = configure(options.recipe, {"seed": seed, "name": name})
    folder = options.runs / name
    resume = (folder / CHECKPOINT_FILE).is_file()
    run = Run(folder, config, device=device_of(options.device), artifacts=options.out, resume=resume)
    RECIPES[options.recipe].train(config, load_training(SOURCES[config.dataset], data_root()), run)
    return run.history[run.best_epoch - 1]


def validated(folder: Path, config: JobConfig) -> dict[str, float]:
    """Return the validation metrics of the artefact in the folder if exactly this recipe made it; otherwise {}."""
    if not is_done(folder, config):
        return {}
    artefact = artefact_folders.load(folder)
    metrics = {name: metric.value for name, metric in artefact.manifest.metrics.items() if metric.split == "validation"}
    if isinstance(config, ClassifierConfig) and f"validation_{config.selected_by}" not in metrics:
        data = load_training(SOURCES[config.dataset], data_root())
        more = defended(open_twin(artefact.model_path), data.validation, config)
        metrics |= {f"validation_{name}": value for name, value in more.items()}
    return metrics


def is_done(folder: Path, config: JobConfig) -> bool:
    """Whether the folder holds a complete artefact of exactly this recipe, built on the artefacts now beside it."""
    try:
        made = artefact_folders.load(folder).manifest.training
        return (
            made is not None
            and not config.differences(made.config)
            and made.builds_on == digests(config, folder.parent)
        )
    except ArtefactError:
        return False


def command_of(recipe: str, changes: dict[str, Any]) -> str:
    """Return the command line that repeats a run from its beginning."""
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    return shlex.join(["python", "-m", "training", "train", recipe, *words])


def show_table(options: argparse.Namespace) -> None:
    """Print clean, robust and certified accuracy of all classifiers, measured on the exported files."""
    print(table(options.models, (EVALSETS, data_root() / "evalsets"), attacked=not options.quick))


def list_recipes(_: argparse.Namespace) -> None:
    """Print one line for each recipe: name, epochs, and the fields that differ from their defaults."""
    for name, recipe in RECIPES.items():
        config = recipe.config
        chosen = (f"{key} {value}" for key, value in config.model_dump(exclude=LISTED, exclude_defaults=True).items())
        print(f"{name:31} {config.epochs:3} epochs  {', '.join(chosen)}")


def fetch(_: argparse.Namespace) -> None:
    """Download missing data sets, check existing ones, and write the evaluation sets that are not in the repository."""
    for name, source in SOURCES.items():
        download(source, data_root())
        print(f"{name}: complete under {data_root()}")
        if not (EVALSETS / f"{name}.npz").is_file():
            write(name, source, load_test(source, data_root()), data_root() / "evalsets")


def make_evalsets(options: argparse.Namespace) -> None:
    """Write evaluation sets from test sets, or from another file in a data set's format."""
    if options.file and (len(options.datasets) != 1 or not options.name):
        raise DataError("--file needs one data set, in whose format it is, and --name")
    for dataset in options.datasets or SOURCES:
        source = SOURCES[dataset]
        test = load_other(source, options.file) if options.file else load_test(source, data_root())
        write(options.name or dataset, source, test, options.evalsets or data_root() / "evalsets")


def write(name: str, source: DataSource, test: Examples, folder: Path) -> None:
    """Write one evaluation set, and print its path and sha256."""
    digest = write_evalset(name, source, test, folder)
    print(f"{folder / name}.npz sha256 {digest}{'' if test.official else ' (not the official file)'}")


def assignment(text: str) -> tuple[str, Any]:
    """Parse ``FIELD=VALUE`` of --set; a value that is not JSON is taken as text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="python -m training", description="Data sets and models, made offline.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="the models that can be trained")
    listing.set_defaults(call=list_recipes)

    data = commands.add_parser("data", help="download and check the data sets (GAUNTLET_DATA, by default data/)")
    data.set_defaults(call=fetch)

    evalset = commands.add_parser("evalset", help="write evaluation sets")
    evalset.add_argument("datasets", nargs="*", choices=[[], *SOURCES], metavar="DATASET", help="default: all")
    evalset.add_argument("--file", type=Path, help="other images in the data set's format")
    evalset.add_argument("--name", help="of the evaluation set, where not the data set's")
    evalset.add_argument("--evalsets", type=Path, help="where they go (default: evalsets/ in GAUNTLET_DATA)")
    evalset.set_defaults(call=make_evalsets)

    every = commands.add_parser("all", help="train every model that has no artefact yet")
    every.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    every.add_argument("--runs", type=Path, default=RUNS, help="where checkpoints and logs go")
    every.add_argument("--out", type=Path, default=ARTIFACTS, help="where the artefacts go")
    every.set_defaults(call=train_all)

    seeds = commands.add_parser(
        "seeds", help="train a model from several seeds: validation figures, nothing is exported"
    )
    seeds.add_argument("recipe", choices=RECIPES, metavar="NAME", help="see `list`")
    seeds.add_argument("--seeds", type=int, default=3, help="how many (%(default)s)")
    seeds.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    seeds.add_argument("--runs", type=Path, default=RUNS, help="where checkpoints and logs go")
    seeds.add_argument("--out", type=Path, default=ARTIFACTS, help="where the judge of a generator is")
    seeds.set_defaults(call=spread)

    rows = commands.add_parser("table", help="clean, robust and certified accuracy of every classifier, recomputed")
    rows.add_argument("--models", type=Path, default=ARTIFACTS, help="where the artefacts are")
    rows.add_argument("--quick", action="store_true", help="without the attacks")
    rows.set_defaults(call=show_table)

    again = commands.add_parser("calibrate", help="fit the temperature of exported classifiers again")
    again.add_argument("names", nargs="*", metavar="NAME", help="default: all classifiers")
    again.add_argument("--out", type=Path, default=ARTIFACTS, help="where the artefacts are")
    again.set_defaults(call=calibrate_all)

    cards = commands.add_parser("cards", help="write into exported models' cards what was tried for them")
    cards.add_argument("--out", type=Path, default=ARTIFACTS, help="where the artefacts are")
    cards.set_defaults(call=rewrite_cards)

    job = commands.add_parser("train", help="train a model, measure it on the test set, export it")
    job.add_argument("recipe", choices=RECIPES, metavar="NAME", help="see `list`")
    job.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    job.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    job.add_argument("--epochs", type=int)
    job.add_argument("--seed", type=int)
    job.add_argument("--name", help="of the artefact, where not the recipe's")
    job.add_argument("--set", type=assignment, action="append", default=[], metavar="FIELD=VALUE", help="of the recipe")
    job.add_argument("--runs", type=Path, default=RUNS, help="where checkpoints and logs go")
    job.add_argument("--out", type=Path, default=ARTIFACTS, help="where the artefact goes")
    job.add_argument(
        "--limit", type=float, default=math.inf, metavar="SECONDS", help="of training: then the best epoch so far ships"
    )
    job.add_argument("--trial", action="store_true", help="validation figures only: no test set, no export")
    job.set_defaults(call=train)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 for success, 1 for an error whose message was printed, 130 when interrupted."""
    options = parser().parse_args(arguments)
    try:
        options.call(options)
    except (DataError, RunError, ExportError, GauntletError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the last finished epoch is kept: go on with --resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
