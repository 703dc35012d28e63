"""Uploads, kept as the service keeps them."""

import hashlib
from pathlib import Path

from service.uploads.file_storage import Folder
from service.uploads.ownership import OPERATORS, Ownership
from service.uploads.records import Kind, UploadRecords

BYTES = b"bytes"
SHA256 = hashlib.sha256(BYTES).hexdigest()


def uploads(url: str, folder: Path = Path("/nowhere"), patience: float | None = None) -> UploadRecords:
    """Without a folder: whose files are of no interest."""
    return UploadRecords(url, Folder(folder), patience)


def add(
    storage: UploadRecords,
    name: str,
    data: bytes = BYTES,
    kind: Kind = "model",
    limit: int = 9,
    ownership: Ownership = OPERATORS,
) -> None:
    with storage.files.draft() as draft:
        draft.write(data)
        sha256 = hashlib.sha256(data).hexdigest()
        storage.add(kind, name, sha256, draft, sha256 if kind == "evalset" else "{}", limit, ownership)
