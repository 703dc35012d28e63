"""Inputs that several commands share: models and labelled images, by name or file, and FIELD=VALUE arguments."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from gauntlet import python_api
from gauntlet.artifacts import evaluation_sets
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.cli import user_files
from gauntlet.errors import InvalidInput
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.runtime import classifier
from gauntlet.runtime.classifier import Classifier, OnnxClassifier


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that runs models on images."""
    parser.add_argument(
        "--dataset", help="evaluation set, or a file: *.npz of images and labels, *.zip; default: the model's own"
    )
    parser.add_argument(
        "--declare",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help=f"settings of *.onnx files that are not to be guessed; fields: {', '.join(ModelSettings.model_fields)}; "
        "classes=@FILE reads the names from a file, preprocessing=@FILE pixel settings from a preprocessor_config.json",
    )
    parser.add_argument("--n", type=int, default=100, help="first n images (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)


def open_inputs(options: argparse.Namespace, names: Sequence[str]) -> tuple[list[Classifier], EvalSet]:
    """Return the classifiers, each by its name or from its file, and the images. Raises InvalidInput."""
    declared, own_images = user_files.declared(options.declare), user_files.is_images(options.dataset)
    of_a_model = declared.keys() - ({"classes"} if own_images else set())  # images have classes too
    if of_a_model and not any(map(user_files.is_model, names)):
        raise InvalidInput(
            f"--declare {min(of_a_model)} applies only to a model given as a file (*.onnx); "
            "the manifest of a shipped model has it",
            "declare",
        )
    images = user_files.images(options.dataset, user_files.class_list(declared.get("classes"))) if own_images else None
    if images is None and options.dataset is not None:
        images = _shipped_images(options, options.dataset)
    shipped = [name for name in names if not user_files.is_model(name)]
    found = classifier.open_all(options.root / "artifacts", options.device, only=shipped) if shipped else {}
    models: list[Classifier] = []
    for name in names:
        model = (
            user_files.classifier(name, declared, images, options.device, naming=own_images)
            if user_files.is_model(name)
            else found[name]
        )
        if not isinstance(model, OnnxClassifier):
            raise InvalidInput(f"{name} is a generator; attacks and reports need a classifier", "model")
        models.append(model)
    if images is None:
        images = _shipped_images(options, models[0].manifest.dataset)
    return models, evaluation_sets.matched(images, models[0].manifest.classes, models[0].name)


def _shipped_images(options: argparse.Namespace, name: str) -> EvalSet:
    paths = evaluation_sets.find(evalset_folders(options))
    if name == python_api.OWN:
        raise InvalidInput("say which images: --dataset NAME, or an .npz file with images and labels", "dataset")
    if name not in paths:
        raise InvalidInput(evaluation_sets.missing(name, paths), "dataset")
    return evaluation_sets.load(paths[name])


def evalset_folders(options: argparse.Namespace) -> tuple[Path, ...]:
    """Return the folders of evaluation sets: beside the models, and in GAUNTLET_DATA."""
    return options.root / "evalsets", Path(os.environ.get("GAUNTLET_DATA", "data")) / "evalsets"


def fields(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Return FIELD=VALUE arguments as a dict; a schema parses the values later. Raises InvalidInput."""
    if wrong := [text for text in texts if "=" not in text]:
        raise InvalidInput(f"--{option} {wrong[0]}: write it as FIELD=VALUE")
    return dict(text.split("=", 1) for text in texts)


def positive(text: str) -> float:
    """Parse a finite number above zero. Raises ValueError."""
    if not 0 < (value := float(text)) < float("inf"):
        raise ValueError(text)
    return value
