"""Somebody's file, adopted and opened in this process."""

import io
import tempfile
from pathlib import Path
from typing import Any

from gauntlet.onnx_import.conversion import adopt
from gauntlet.onnx_import.imported_artefact import open_saved, save
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.runtime.classifier import Classifier


def opened(data: bytes, **declared: Any) -> Classifier:
    """With what its owner says of it. Raises InvalidInput or ArtefactError."""
    found = adopt(data, ModelSettings(name="mine", **declared))
    with tempfile.TemporaryDirectory() as root:
        return open_saved(
            save(Path(root), io.BytesIO(found.graph), found.manifest.name), found.manifest, new=True, device="cpu"
        )
