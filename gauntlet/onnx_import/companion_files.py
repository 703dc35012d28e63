"""Small text files that come with an ONNX file: in its folder, zip or upload, or declared by the user."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gauntlet.errors import InvalidInput
from gauntlet.onnx_import.class_names import LONGEST


@dataclass(frozen=True)
class CompanionFile:
    """A file's name and content. ``given``: the user declared it; otherwise it was found beside the model."""

    name: str
    content: bytes
    given: bool


def given(path: Path, field: str) -> CompanionFile:
    """Read a file that the user declared. Raises InvalidInput with this ``field`` if it cannot be read."""
    try:
        return CompanionFile(path.name, _content(path), given=True)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})", field) from error


def in_folder(model: Path, names: Sequence[str]) -> list[CompanionFile]:
    """Read the files of these ``names`` in the folder of a model; missing or unreadable files are skipped."""
    found = []
    for name in names:
        try:
            found.append(CompanionFile(name, _content(model.parent / name), given=False))
        except OSError:
            continue
    return found


def among(beside: Callable[[str], bytes | None], names: Sequence[str]) -> list[CompanionFile]:
    """Read the files of these ``names`` that are beside the model in a zip or an upload."""
    contents = ((name, beside(name)) for name in names)
    return [CompanionFile(name, content[: LONGEST + 1], given=False) for name, content in contents if content]


def _content(path: Path) -> bytes:
    """Read at most LONGEST + 1 bytes: longer files are not parsed, and the extra byte shows that a file is longer."""
    with path.open("rb") as file:
        return file.read(LONGEST + 1)
