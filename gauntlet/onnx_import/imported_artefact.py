"""Opens a converted model, with gradients if they can be verified; otherwise the manifest has the reason."""

import shutil
from pathlib import Path
from typing import IO

from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.manifest import MANIFEST_FILE, MODEL_FILE, ClassifierManifest
from gauntlet.errors import ArtefactError
from gauntlet.runtime import classifier
from gauntlet.runtime.classifier import Classifier, OnnxClassifier
from gauntlet.runtime.served import Device

REASON = 300  # characters of an error in the manifest
PIECE = 2**20  # bytes, of one read while copying


def save(root: Path, graph: IO[bytes], name: str) -> Path:
    """Write the graph into a new artefact folder, still without a manifest, in pieces, and return the folder."""
    folder = root / name
    folder.mkdir()
    graph.seek(0)
    with (folder / MODEL_FILE).open("wb") as file:
        shutil.copyfileobj(graph, file, PIECE)
    return folder


def open_saved(folder: Path, manifest: ClassifierManifest, *, new: bool, device: Device = "auto") -> Classifier:
    """Open the graph in a folder from ``save``, which may be deleted afterwards. Raises ArtefactError.

    A ``new`` model whose gradients cannot be verified is opened without them. Any other must match its manifest.
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
