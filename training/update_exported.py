"""Updates of exported models without training: fit temperatures again, write cards again."""

import argparse
import shutil
from pathlib import Path

from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.manifest import MODEL_FILE, ClassifierManifest, TrainingRecord
from training.calibration import DIAGRAM_FILE, calibrate
from training.card import CARD_FILE, card, with_findings
from training.classifier_config import ClassifierConfig
from training.data import SOURCES, data_root, load_test, load_training
from training.export import replacing, save_pictures, write_manifest
from training.run import RunError


def calibrate_all(options: argparse.Namespace) -> None:
    """Fit the temperature of exported classifiers again, and measure it on the test set; the networks stay as they are.

    Raises:
        RunError: a named artefact is no classifier, or has no training record.
    """
    for name in options.names or [path.parent.name for path in sorted(options.out.glob("*/manifest.json"))]:
        manifest = artefact_folders.load(options.out / name).manifest
        if isinstance(manifest, ClassifierManifest) and manifest.training is not None:
            recalibrate(options.out / name, manifest, manifest.training)
        elif options.names:
            raise RunError(f"{name} is no classifier that was trained here: leave it out")


def recalibrate(folder: Path, manifest: ClassifierManifest, record: TrainingRecord) -> None:
    """Replace one artefact folder: new temperature, calibration figures, diagram and card; the same network."""
    source, root = SOURCES[manifest.dataset], data_root()
    result = calibrate(folder / MODEL_FILE, load_training(source, root).validation, load_test(source, root))
    fields = {**dict(manifest), "metrics": manifest.metrics | result.metrics, "temperature": result.temperature}
    with replacing(folder) as fresh:
        shutil.copytree(folder, fresh, dirs_exist_ok=True)
        save_pictures(fresh, {DIAGRAM_FILE: result.diagram})
        config = ClassifierConfig.model_validate(record.config)
        (fresh / CARD_FILE).write_text(card({**fields, "training": record}, config.notes()))
        write_manifest(fresh, fields)
    names = ("calibration_error_without_temperature", "calibration_error")
    errors = " -> ".join(f"{result.metrics[name].value:.4f}" for name in names)
    print(f"{folder.name}: temperature {result.temperature:.4g}, calibration error {errors}")


def rewrite_cards(options: argparse.Namespace) -> None:
    """Update the section "What was tried" of the cards from ``training.findings``, and the digests in the manifests."""
    for path in sorted(options.out.glob(f"*/{CARD_FILE}")):
        artefact, text = artefact_folders.load(path.parent), path.read_text()
        if (new := with_findings(text, artefact.manifest.name)) != text:
            path.write_text(new)
            write_manifest(path.parent, dict(artefact.manifest))
            print(f"{path}: written again")
