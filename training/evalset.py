"""Evaluation sets: all test images of a data set in one file."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gauntlet.artifacts.manifest import sha256_of
from training.data import DataSource, Examples

NOT_OFFICIAL = "NOT the official files but a copy that differs"


def write_evalset(name: str, source: DataSource, test: Examples, out: Path) -> str:
    """Write ``<out>/<name>.npz`` (images, labels, classes, licence) and ``<name>.json``, which describes it.

    The same data give the same bytes: the archive's entries have a fixed order and a fixed date.

    Returns:
        The sha256 of the npz file.

    """
    licence = source.licence if test.official else f"{source.licence}; {NOT_OFFICIAL}"
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.npz"
    temporary = out / f".{name}.npz"
    arrays: dict[str, NDArray[np.generic]] = {
        "images": test.images.squeeze(1).numpy(),  # (N, H, W) or (N, C, H, W) uint8
        "labels": test.labels.numpy().astype(np.uint8),  # (N,)
        "classes": np.array(source.classes),
        "licence": np.array(licence),
    }
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for key, value in arrays.items():
            entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, value, allow_pickle=False)
            archive.writestr(entry, buffer.getvalue())
    temporary.replace(path)
    digest = sha256_of(path)
    description = {
        "name": name,
        "sha256": digest,
        "n": len(test.labels),
        "licence": licence,
        "source": source.source,
        "classes": source.classes,
    }
    (out / f"{name}.json").write_text(json.dumps(description, indent=2) + "\n")
    return digest
