"""Artefact folders: ``<root>/<name>/{manifest.json, model.onnx, ...}``, verified before anything is served."""

from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from pydantic import ValidationError

from gauntlet.artifacts.manifest import (
    ADAPTER,
    MANIFEST_FILE,
    MODEL_FILE,
    ClassifierManifest,
    GeneratorManifest,
    sha256_of,
)
from gauntlet.errors import ArtefactError


@dataclass(frozen=True)
class Artefact:
    """A folder whose files match its manifest."""

    manifest: ClassifierManifest | GeneratorManifest
    folder: Path

    @property
    def model_path(self) -> Path:
        return self.folder / MODEL_FILE


def load(folder: Path) -> Artefact:
    """Read and verify one folder: its manifest, the sha256 of every file, and the shapes of the graph.

    Raises ArtefactError, which names the file and the reason.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        _verify(folder, name, expected)
    artefact = Artefact(manifest, folder)
    _check_shapes(artefact)
    return artefact


def read_manifest(folder: Path) -> ClassifierManifest | GeneratorManifest:
    """Read the manifest alone, without verifying any file: only its name must be the folder's. Raises ArtefactError."""
    path = folder / MANIFEST_FILE
    try:
        manifest = ADAPTER.validate_json(path.read_bytes())
    except OSError as error:
        raise ArtefactError(
            f"{path}: cannot be read ({error.strerror}); train the model again or restore the folder"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ArtefactError(f"{path}: not a manifest: {field}: {first['msg']}") from error
    if manifest.name != folder.name:
        raise ArtefactError(f"{path}: names {manifest.name!r}, but its folder is {folder.name!r}")
    return manifest


def load_all(root: Path) -> dict[str, Artefact]:
    """Load every artefact folder under ``root``, by name. Raises ArtefactError if one is invalid or there is none."""
    return {artefact.manifest.name: artefact for artefact in map(load, folders(root))}


def folders(root: Path) -> list[Path]:
    """Return the artefact folders under ``root``, sorted by name. Raises ArtefactError if there is none."""
    found = sorted(path.parent for path in root.glob(f"*/{MANIFEST_FILE}") if not path.parent.name.startswith("."))
    if not found:
        raise ArtefactError(f"{root}: holds no model folder (<name>/{MANIFEST_FILE})")
    return found


def _verify(folder: Path, name: str, expected: str) -> None:
    path = folder / name
    if path.resolve().parent != folder.resolve():
        raise ArtefactError(f"{folder / MANIFEST_FILE}: {name!r} is not a file of this folder")
    if not path.is_file():
        raise ArtefactError(f"{path}: is missing; restore it or train the model again")
    if sha256_of(path) != expected:
        raise ArtefactError(
            f"{path}: its sha256 is not the one in {MANIFEST_FILE}; restore it or train the model again"
        )


def _check_shapes(artefact: Artefact) -> None:
    """Raise ArtefactError unless the graph has one input and one output (batch, ...), of the shapes in the manifest."""
    path = artefact.model_path
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except (DecodeError, OSError) as error:
        raise ArtefactError(f"{path}: is not an ONNX file ({error})") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise ArtefactError(f"{path}: keeps weights in another file; export it with external_data=False")
    manifest = artefact.manifest
    if isinstance(manifest, ClassifierManifest):
        expected = {"input": manifest.input_shape, "output": (len(manifest.classes),)}
    else:
        expected = {"input": (manifest.latent_dim,), "output": manifest.output_shape}
    weights = {tensor.name for tensor in graph.initializer}
    found = {"input": [value for value in graph.input if value.name not in weights], "output": list(graph.output)}
    for side, values in found.items():
        if len(values) != 1:
            raise ArtefactError(f"{path}: has {len(values)} {side}s, wanted one")
        dims = tuple(dim.dim_value for dim in values[0].type.tensor_type.shape.dim)[1:]
        if dims != expected[side]:
            raise ArtefactError(f"{path}: its {side} is (batch, {dims}), the manifest says {expected[side]}")
