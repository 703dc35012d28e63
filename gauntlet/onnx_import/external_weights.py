"""Weights that an ONNX file keeps in other files, as ``torch.onnx.export`` does by default.

The file names them by a path. Nothing but what lies beside the file is read, and nothing that it does not refer to.
"""

import io
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

from onnx import TensorProto, helper

from gauntlet.errors import refused

Beside = Callable[[str], bytes | None]
"""The content of the file of this name beside the model; None where there is none."""

ZIP = b"PK\x03\x04"


def nothing(_: str) -> None:
    """Beside a file that stands alone."""


def among(files: Mapping[str, Callable[[], bytes]]) -> Beside:
    """Files by name, as an upload brings them, each read when it is needed, and not kept.

    A file in a folder may also be given by its last name.
    """

    def find(name: str) -> bytes | None:
        found = files.get(name, files.get(PurePosixPath(name).name))
        return None if found is None else found()

    return find


def in_folder(folder: Path, most: int) -> Beside:
    """Regular files of at most ``most`` bytes inside the folder, links out of it refused."""
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
    """The one *.onnx file in a zip, and what lies beside it there. Raises InvalidInput."""
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
    """Put the numbers of every tensor that lies in another file into the tensor itself.

    Raises InvalidInput for a file that is not there, a path out of the folder, a place or a size that does not fit.
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
    """Where in the file the tensor's numbers begin, and how many bytes they are."""
    what = tensor.name[:100] or "a constant"
    try:
        wanted = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        first, length = int(entries.get("offset", "0")), int(entries.get("length", str(wanted)))
    except (ValueError, KeyError) as error:
        raise refused(f"where {what} lies in {entries.get('location', '')[:200]!r} is not said in numbers") from error
    if any(dim < 0 for dim in tensor.dims) or length != wanted:
        raise refused(f"{what} needs {wanted} bytes of {entries['location'][:200]!r}, and it says {length}")
    if first < 0 or first + length > len(content):
        raise refused(f"{what} ends beyond the {len(content)} bytes of {entries['location'][:200]!r}")
    return first, length
