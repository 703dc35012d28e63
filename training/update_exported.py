"""What is done to exported models without training them: temperatures fitted again, cards written again."""

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
        RunError: an artefact is no classifier, or does not say how it was trained.
    """
    for name in options.names or [path.parent.name for path in sorted(options.out.glob("*/manifest.json"))]:
        manifest = artefact_folders.load(options.out / name).manifest
        if isinstance(manifest, ClassifierManifest) and manifest.training is not None:
            recalibrate(options.out / name, manifest, manifest.training)
        elif options.names:
            raise RunError(f"{name} is no classifier that was trained here: leave it out")


def recalibrate(folder: Path, manifest: ClassifierManifest, record: TrainingRecord) -> None:
    """Replace one artefact folder by the same with another temperature, its figures, diagram and card."""
    source, root = SOURCES[manifest.dataset], data_root()
    found = calibrate(folder / MODEL_FILE, load_training(source, root).validation, load_test(source, root))
    fields = {**dict(manifest), "metrics": manifest.metrics | found.metrics, "temperature": found.temperature}
    with replacing(folder) as fresh:
        shutil.copytree(folder, fresh, dirs_exist_ok=True)
        save_pictures(fresh, {DIAGRAM_FILE: found.diagram})
        config = ClassifierConfig.model_validate(record.config)
        (fresh / CARD_FILE).write_text(card({**fields, "training": record}, config.notes()))
        write_manifest(fresh, fields)
    names = ("calibration_error_without_temperature", "calibration_error")
    errors = " -> ".join(f"{found.metrics[name].value:.4f}" for name in names)
    print(f"{folder.name}: temperature {found.temperature:.4g}, calibration error {errors}")


def rewrite_cards(options: argparse.Namespace) -> None:
    """Write into the cards what was tried, as ``training.findings`` has it now; manifests keep the cards' digests."""
    for path in sorted(options.out.glob(f"*/{CARD_FILE}")):
        artefact, text = artefact_folders.load(path.parent), path.read_text()
        if (new := with_findings(text, artefact.manifest.name)) != text:
            path.write_text(new)
            write_manifest(path.parent, dict(artefact.manifest))
            print(f"{path}: written again")
