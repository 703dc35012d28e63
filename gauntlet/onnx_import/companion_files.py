"""Small text files that come with an ONNX file: in its folder, its zip or its upload, or given by its owner."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gauntlet.errors import InvalidInput
from gauntlet.onnx_import.class_names import LONGEST


@dataclass(frozen=True)
class CompanionFile:
    """``given``: its owner says what it is for; otherwise it only lies beside the model."""

    name: str
    content: bytes
    given: bool


def given(path: Path, field: str) -> CompanionFile:
    """Raises InvalidInput with this ``field`` where it cannot be read."""
    try:
        return CompanionFile(path.name, _content(path), given=True)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})", field) from error


def in_folder(model: Path, names: Sequence[str]) -> list[CompanionFile]:
    """Those of the ``names`` in the folder of a model; what cannot be read is left out."""
    found = []
    for name in names:
        try:
            found.append(CompanionFile(name, _content(model.parent / name), given=False))
        except OSError:
            continue
    return found


def among(beside: Callable[[str], bytes | None], names: Sequence[str]) -> list[CompanionFile]:
    """Those of the ``names`` that lie beside the model in a zip or an upload."""
    contents = ((name, beside(name)) for name in names)
    return [CompanionFile(name, content[: LONGEST + 1], given=False) for name, content in contents if content]


def _content(path: Path) -> bytes:
    """One byte more than LONGEST at most: nothing is found in what is longer."""
    with path.open("rb") as file:
        return file.read(LONGEST + 1)
