"""External weights: tensors that an ONNX file stores in other files, as ``torch.onnx.export`` does by default.

The ONNX file refers to them by a path. Only files beside the model to which it refers are read.
"""

import io
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

from onnx import TensorProto, helper

from gauntlet.errors import refused

Beside = Callable[[str], bytes | None]
"""A function that returns the content of the file of a given name beside the model; None if there is none."""

ZIP = b"PK\x03\x04"


def nothing(_: str) -> None:
    """Return None: the ``Beside`` of a model without further files."""


def among(files: Mapping[str, Callable[[], bytes]]) -> Beside:
    """Return a ``Beside`` for uploaded files by name; each is read when it is needed, and not cached.

    A file that the model refers to in a subfolder is also found by its name without the folder.
    """

    def find(name: str) -> bytes | None:
        found = files.get(name, files.get(PurePosixPath(name).name))
        return None if found is None else found()

    return find


def in_folder(folder: Path, most: int) -> Beside:
    """Return a ``Beside`` for the regular files inside a folder.

    It raises InvalidInput for a file of more than ``most`` bytes, and for a path or link that leads out of the folder.
    """
    root = folder.resolve()

    def find(name: str) -> bytes | None:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise refused(f"{name[:200]} lies outside the folder of the model")
        if not path.is_file():
            return None
        if path.stat().st_size > most:
            raise refused(f"{name[:200]} has {path.stat().st_size} bytes, at most {most} are read")
        return path.read_bytes()

    return find


def unzip(data: bytes, most: int) -> tuple[bytes, Beside]:
    """Return the content of the only *.onnx file in a zip, and a ``Beside`` for the files in its folder there.

    Raises InvalidInput if the zip cannot be read, holds no or several *.onnx files, or more than ``most`` bytes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
            models = [name for name in sizes if name.endswith(".onnx") and not name.startswith("__MACOSX/")]
            if len(models) != 1:
                raise refused(f"the zip holds {len(models)} files *.onnx; one is wanted, with its weights beside it")
            if sum(sizes.values()) > most:
                raise refused(f"the zip holds {sum(sizes.values())} bytes, at most {most} are read")
            model = archive.read(models[0])
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise refused(f"it is not a readable zip ({str(error)[:200]})") from error
    folder = PurePosixPath(models[0]).parent

    def find(name: str) -> bytes | None:
        path = str(folder / name)
        if path not in sizes:
            return None
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return archive.read(path)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise refused(f"{name[:200]} cannot be read from the zip ({str(error)[:200]})") from error

    return model, find


def load(tensors: Iterable[TensorProto], beside: Beside, most: int) -> None:
    """Replace every reference to an external file in ``tensors`` by the bytes that it refers to, in place.

    Raises InvalidInput for a missing file, a path out of the folder, an offset or a length that does not fit, or files
    of more than ``most`` bytes together.
    """
    files: dict[str, bytes] = {}
    for tensor in tensors:
        if tensor.data_location != TensorProto.EXTERNAL and not tensor.external_data:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = _plain(entries.get("location", ""))
        if name not in files:
            files[name] = _content(name, beside)
            if sum(map(len, files.values())) > most:
                raise refused(f"its weights have more than {most} bytes")
        first, length = _place(tensor, entries, files[name])
        tensor.raw_data = files[name][first : first + length]
        tensor.ClearField("data_location")
        del tensor.external_data[:]


def _plain(location: str) -> str:
    """Return the normalised path. Raises InvalidInput if it is absolute, or may lead out of the folder."""
    path = PurePosixPath(location)
    if not path.name or path.is_absolute() or ".." in path.parts or "\\" in location or "\0" in location:
        raise refused(f"its weights lie in another file, {location[:200]!r}, which is no path beside it")
    return str(path)


def _content(name: str, beside: Beside) -> bytes:
    found = beside(name)
    if found is None:
        raise refused(
            f"its weights lie in another file, {name[:200]!r}: bring it along (a further part of the upload with this "
            f"file name, a zip of both, or beside the model in its folder), or export with external_data=False"
        )
    return found


def _place(tensor: TensorProto, entries: Mapping[str, str], content: bytes) -> tuple[int, int]:
    """Return offset and length, in bytes, of the tensor's data in the file. Raises InvalidInput if they do not fit."""
    what = tensor.name[:100] or "a constant"
    try:
        wanted = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        first, length = int(entries.get("offset", "0")), int(entries.get("length", str(wanted)))
    except (ValueError, KeyError) as error:
        raise refused(f"where {what} lies in {entries.get('location', '')[:200]!r} is not given in numbers") from error
    if any(dim < 0 for dim in tensor.dims) or length != wanted:
        raise refused(f"{what} needs {wanted} bytes of {entries['location'][:200]!r}, and its entry declares {length}")
    if first < 0 or first + length > len(content):
        raise refused(f"{what} ends beyond the {len(content)} bytes of {entries['location'][:200]!r}")
    return first, length
