"""Downloads models by address from object storage, Hugging Face or an MLflow registry, and pins their version.

Addresses: ``s3://BUCKET/KEY.onnx`` (``gs://``, ``az://``), ``hf://ORG/NAME@REVISION/FILE.onnx`` (main by default; a
slash in the revision is written %2F), and ``mlflow:models:/NAME/VERSION`` or ``mlflow:models:/NAME@ALIAS``. With
``#sha256=DIGEST`` after an address, another file is refused. Endpoints and credentials are read from the environment
variables of each client.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from types import ModuleType
from urllib.parse import unquote

from gauntlet.artifacts import mlflow_package, object_storage
from gauntlet.artifacts.manifest import ClassifierManifest, sha256_of
from gauntlet.artifacts.object_storage import ObjectStorage, StorageError
from gauntlet.errors import InvalidInput, reason
from gauntlet.onnx_import.conversion import COMPANIONS
from gauntlet.onnx_import.preprocessing_files import USUAL as AT_TOP
from gauntlet.onnx_import.validation import MAX_BYTES

HUGGING_FACE, MLFLOW = "hf://", "mlflow:"
SCHEMES = (*object_storage.SCHEMES, HUGGING_FACE, MLFLOW)
DIGEST = "#sha256="
WEIGHTS = ("{}.data", "{}_data")  # names that exporters give to the file of external weights


@dataclass(frozen=True)
class Fetched:
    """A downloaded ONNX file, with files beside it that the model may need."""

    file: Path
    name: str  # a name for the model, from its address
    address: str  # with the exact revision or version, and the sha256


def is_address(text: str) -> bool:
    return text.startswith(SCHEMES)


def is_allowed(address: str, prefixes: tuple[str, ...]) -> bool:
    """Whether an address is below one of the prefixes: s3://bucket/a is below s3://bucket, s3://bucket-b is not."""
    plain = unquote(address)
    if ".." in re.split(r"[/\\:]", plain) or not plain.isprintable():
        return False
    return any(
        address.startswith(prefix)
        and (prefix.endswith(("/", ":")) or address[len(prefix) :][:1] in ("", "/", "@", "#"))
        for prefix in prefixes
    )


def from_address(manifest: ClassifierManifest, address: str) -> ClassifierManifest:
    """Return the manifest with the address that its file was downloaded from."""
    assert manifest.adoption is not None
    return manifest.model_copy(update={"adoption": manifest.adoption.model_copy(update={"source": address})})


@contextmanager
def fetched(address: str) -> Iterator[Fetched]:
    """Download the file into a temporary folder, which is deleted when the context ends.

    Raises InvalidInput with the field ``models``: the address is invalid or has no file, a package is not installed,
    the download fails, the file is too large or has another sha256.
    """
    with tempfile.TemporaryDirectory(prefix="gauntlet-fetched-") as folder:
        place, _, digest = address.partition(DIGEST)
        try:
            found = _fetch(place, Path(folder))
        except InvalidInput as error:
            raise InvalidInput(str(error), "models") from error
        except (FileNotFoundError, StorageError) as error:
            raise InvalidInput(f"{place}: {_message(error)}", "models") from error
        actual = found.address.rpartition(DIGEST)[2]
        if digest and digest.lower() != actual:
            raise InvalidInput(f"{place}: its sha256 is {actual}, not {digest[:64]}", "models")
        yield found


def _message(error: Exception) -> str:
    return "there is no such file" if isinstance(error, FileNotFoundError) else str(error)


def _fetch(address: str, folder: Path) -> Fetched:
    if address.startswith(HUGGING_FACE):
        return _from_hugging_face(address, folder)
    return _from_mlflow(address, folder) if address.startswith(MLFLOW) else _from_storage(address, folder)


def _from_storage(address: str, folder: Path) -> Fetched:
    place, _, name = address.rpartition("/")
    if place.endswith("/") or not name:
        raise InvalidInput(f"{address}: write it as s3://BUCKET/KEY.onnx")
    storage, file = ObjectStorage(place), folder / name
    sizes = {name: storage.size(name)}
    for other in _beside(name):
        with suppress(FileNotFoundError):
            sizes[other] = storage.size(other)
    for wanted, size in sizes.items():
        _check_size(f"{place}/{wanted}", size)
        with (folder / wanted).open("wb") as opened:
            storage.download(wanted, opened)
    return _pinned(file, file.stem, address)


def _beside(name: str) -> list[str]:
    """Return the names that files beside the model may have: external weights, class names, preprocessing."""
    return [*(form.format(name) for form in WEIGHTS), *COMPANIONS]


HF_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?:@([^/@]+))?/(.+)", re.ASCII)


def _from_hugging_face(address: str, folder: Path) -> Fetched:
    match = HF_ADDRESS.fullmatch(address)
    if match is None:
        raise InvalidInput(f"{address}: write it as hf://ORG/NAME@REVISION/FILE.onnx")
    repository, revision, name = match[1], unquote(match[2] or "main"), match[3]
    hub, endpoint = _hugging_face(), os.environ.get("HF_ENDPOINT")

    def reported(work: Callable[[], object]) -> object:
        """Call ``work``. Raises InvalidInput for any error."""
        try:
            return work()
        except Exception as error:  # errors of the hub, of HTTP, of the disk
            raise InvalidInput(f"{address}: {reason(error)[:300]}") from error

    info = reported(lambda: hub.HfApi(endpoint=endpoint).model_info(repository, revision=revision, files_metadata=True))
    sizes = {entry.rfilename: entry.size or 0 for entry in info.siblings or ()}  # type: ignore[attr-defined]
    commit = info.sha  # type: ignore[attr-defined]
    if name not in sizes:
        there = ", ".join(sorted(entry for entry in sizes if entry.endswith(".onnx"))[:10]) or "none"
        raise InvalidInput(f"{address}: there is no such file; files *.onnx of it: {there}")
    parent = PurePosixPath(name).parent
    beside = (str(parent / other) for other in _beside(PurePosixPath(name).name))
    for wanted in dict.fromkeys((name, *beside, *AT_TOP)):
        if wanted in sizes:
            _check_size(wanted, sizes[wanted])
            download = partial(hub.hf_hub_download, repository, revision=commit, local_dir=folder, endpoint=endpoint)
            reported(partial(download, wanted))
    file, title = folder / name, repository.partition("/")[2]
    for config in AT_TOP:  # in the top folder of a repository, also if the ONNX file is in another
        if (folder / config).is_file() and not (file.parent / config).exists():
            shutil.copy(folder / config, file.parent / config)
    named = title if file.stem == "model" else f"{title}-{file.stem}"
    return _pinned(file, named, f"{HUGGING_FACE}{repository}@{commit}/{name}")


def _hugging_face() -> ModuleType:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidInput("hf:// needs huggingface-hub: pip install 'gauntlet-robustness[huggingface]'") from error
    return huggingface_hub


ML_ADDRESS = re.compile(r"mlflow:models:/([^/@#]+)(?:/(\d+)|@([\w.-]+))", re.ASCII)


def _from_mlflow(address: str, folder: Path) -> Fetched:
    match = ML_ADDRESS.fullmatch(address)
    if match is None:
        raise InvalidInput(f"{address}: write it as mlflow:models:/NAME/VERSION or mlflow:models:/NAME@ALIAS")
    name, version, alias = unquote(match[1]), match[2], match[3]
    mlflow = mlflow_package.client()
    try:
        if version is None:
            version = str(mlflow.MlflowClient().get_model_version_by_alias(name, alias).version)
        mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=str(folder))
    except Exception as error:  # errors of MLflow, of its stores, of HTTP
        raise InvalidInput(f"{address}: {reason(error)[:300]}") from error
    files = sorted(folder.rglob("*.onnx"))
    if len(files) != 1:
        raise InvalidInput(f"{address}: version {version} has {len(files)} files *.onnx, one is wanted")
    _check_size(address, files[0].stat().st_size)
    return _pinned(files[0], name, f"{MLFLOW}models:/{name}/{version}")


def _pinned(file: Path, name: str, address: str) -> Fetched:
    """Return the file with the sha256 appended to its address."""
    return Fetched(file, name, f"{address}{DIGEST}{sha256_of(file)}")


def _check_size(what: str, size: int) -> None:
    if size > MAX_BYTES:
        raise InvalidInput(f"{what} has {size} bytes, at most {MAX_BYTES} are read")
