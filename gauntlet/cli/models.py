"""``gauntlet models``: list the models."""

import argparse

from gauntlet.runtime import classifier
from gauntlet.runtime.classifier import OnnxClassifier


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""


def run(options: argparse.Namespace) -> int:
    """Print a line for each model. Returns 0."""
    for name, model in classifier.open_all(options.root / "artifacts", options.device).items():
        if isinstance(model, OnnxClassifier):
            proved = model.certificate.lipschitz
            print(f"{name}\tclassifier\t{'no certificate' if proved is None else f'Lipschitz constant {proved:.4g}'}")
        else:
            print(f"{name}\tgenerator\t{model.manifest.latent_dim} latent dimensions")
    return 0
