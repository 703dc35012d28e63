"""A cache of certificates on disk, so that a restarted process does not prove them again.

The key of a record is the sha256 of the model's file, the version of the code that proves and verifies, and the device
that computes the served logits. The version is a digest of that code and of the versions of the libraries that it uses,
so any change of these, or of one byte of the model, causes a new proof. Only this module writes records; certificates
are never taken from a manifest.
"""

import hashlib
import io
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from gauntlet import installed_packages
from gauntlet.certify.lipschitz import Certificate

LIBRARIES = ("numpy", "onnx", "onnx2pytorch", installed_packages.onnxruntime(), "torch")
CODE = (
    "certify",
    "runtime",
    "artifacts/onnx_file.py",
    "artifacts/onnx_skeleton.py",
    "float32.py",
    "norms.py",
    "per_sample_random.py",
    "threat.py",
)
"""What computes a proof and the gradient check, in gauntlet/: a changed byte in it invalidates every record."""


@cache
def code_version() -> str:
    """Return a digest of the code that a record depends on, and of the versions of the libraries that it uses."""
    versions = installed_packages.versions(LIBRARIES)
    digest = hashlib.sha256(" ".join(f"{name}=={version}" for name, version in versions.items()).encode())
    root = Path(__file__).parent.parent
    for name in CODE:
        part = root / name
        for path in sorted(part.glob("**/*.py")) if part.is_dir() else [part]:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class ProofCache:
    """A folder of records. Records that are damaged, or were written by another version of the code, are ignored."""

    folder: Path

    def load(self, model_sha256: str, device: str) -> Certificate | None:
        """Return the certificate that was proved for a model's file on a device, or None if there is no record."""
        try:
            with np.load(io.BytesIO(self._path(model_sha256, device).read_bytes()), allow_pickle=False) as record:
                lipschitz, pairwise = float(record["lipschitz"]), record["pairwise"].astype(np.float64)
                proved = not np.isnan(lipschitz)
                return Certificate(
                    lipschitz if proved else None,
                    pairwise if proved else None,
                    str(record["reason"]),
                    float(record["rounding"]),
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, model_sha256: str, device: str, certificate: Certificate) -> None:
        """Store the certificate of a model whose twin has been verified. Raises OSError, without leaving a file."""
        record = io.BytesIO()
        np.savez(
            record,
            lipschitz=np.nan if certificate.lipschitz is None else certificate.lipschitz,
            pairwise=np.empty((0, 0)) if certificate.pairwise is None else certificate.pairwise,
            reason=certificate.reason,
            rounding=certificate.rounding,
        )
        path = self._path(model_sha256, device)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
        draft = Path(name)
        try:
            with open(handle, "wb") as file:  # noqa: PTH123  a descriptor, not a path
                file.write(record.getvalue())
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        for other in self.folder.glob(f"{model_sha256}-{device}-*.npz"):
            if other != path:  # written by another version of the code
                other.unlink(missing_ok=True)

    def _path(self, model_sha256: str, device: str) -> Path:
        return self.folder / f"{model_sha256}-{device}-{code_version()}.npz"
