"""A file that was adopted, opened: with gradients if they can be verified, else without, and its manifest says why."""

import tempfile
from pathlib import Path

from gauntlet import runtime, store
from gauntlet.errors import ArtefactError
from gauntlet.manifest import MANIFEST_FILE, MODEL_FILE, ClassifierManifest
from gauntlet.runtime import Classifier, Device

REASON = 300  # characters


def open_new(graph: bytes, manifest: ClassifierManifest, device: Device = "auto") -> Classifier:
    """A graph that nobody has opened before. Raises ArtefactError where it cannot even be run."""
    try:
        return open_known(graph, manifest, device)
    except ArtefactError as error:
        reason = " ".join(str(error).split())[:REASON].replace("(", "").replace(")", "")
        return open_known(graph, manifest.model_copy(update={"gradients": f"none ({reason})"}), device)


def open_known(graph: bytes, manifest: ClassifierManifest, device: Device = "auto") -> Classifier:
    """A graph that is as its manifest says. Raises ArtefactError where it is not."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / manifest.name
        folder.mkdir()
        (folder / MODEL_FILE).write_bytes(graph)
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
        try:
            model = runtime.open_model(store.load(folder), device)
        except ArtefactError as error:
            raise ArtefactError(str(error).replace(f"{folder}/", "")) from error
    assert isinstance(model, Classifier)
    return model
