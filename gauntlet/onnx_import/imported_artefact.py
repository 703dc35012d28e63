"""A file that was adopted, opened: with gradients if they can be verified, else without, and its manifest says why."""

import shutil
from pathlib import Path
from typing import IO

from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.manifest import MANIFEST_FILE, MODEL_FILE, ClassifierManifest
from gauntlet.errors import ArtefactError
from gauntlet.runtime import classifier
from gauntlet.runtime.classifier import Classifier, OnnxClassifier
from gauntlet.runtime.served import Device

REASON = 300  # characters
PIECE = 2**20  # bytes that are copied at once


def save(root: Path, graph: IO[bytes], name: str) -> Path:
    """The folder of an artefact without its manifest: nobody needs the whole of a large graph in memory."""
    folder = root / name
    folder.mkdir()
    graph.seek(0)
    with (folder / MODEL_FILE).open("wb") as file:
        shutil.copyfileobj(graph, file, PIECE)
    return folder


def open_saved(folder: Path, manifest: ClassifierManifest, *, new: bool, device: Device = "auto") -> Classifier:
    """A graph in its folder, which may go once it is open. Raises ArtefactError.

    A ``new`` one without usable gradients is opened without them; any other must be as its manifest says.
    """
    try:
        return _opened(folder, manifest, device)
    except ArtefactError as error:
        if not new:
            raise
        reason = " ".join(str(error).split())[:REASON].replace("(", "").replace(")", "")
    return _opened(folder, manifest.model_copy(update={"gradients": f"none ({reason})"}), device)


def _opened(folder: Path, manifest: ClassifierManifest, device: Device) -> Classifier:
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
    try:
        model = classifier.open_model(artefact_folders.load(folder), device)
    except ArtefactError as error:
        raise ArtefactError(str(error).replace(f"{folder}/", "")) from error
    assert isinstance(model, OnnxClassifier)
    return model
