"""Class names from text files: one that the user declares, or one of the usual files beside an ONNX file.

These are ``labels.txt`` and similar files with one name per line, and the ``config.json`` of Hugging Face with
``id2label``. Every format that ``class_names`` parses is accepted.
"""

from collections.abc import Sequence

from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import class_names
from gauntlet.onnx_import.class_names import Names
from gauntlet.onnx_import.companion_files import CompanionFile
from gauntlet.text import storable

USUAL = ("labels.txt", "classes.txt", "imagenet_classes.txt", "config.json")
"""Files that are looked for beside the model, in this order."""


def read(file: CompanionFile) -> Names:
    """Return the names in the order of the outputs; none if the file has none, or only LABEL_0, LABEL_1, ..."""
    names, order = class_names.parse(file.content.decode("utf-8-sig", errors="replace"))
    if all(name == f"LABEL_{number}" for number, name in enumerate(names)):
        return Names((), "")
    return Names(names, order)


def from_given(files: Sequence[CompanionFile], count: int) -> Names | None:
    """Return the names in the file that the user declared; None if no file was declared.

    Raises InvalidInput if it does not have ``count`` names, or if a name is empty, too long or cannot be stored.
    """
    for file in files:
        if file.given:
            found = read(file)
            if len(found.names) != count:
                message = f"{file.name[:100]!r} has {len(found.names)} names for the {count} outputs of the model"
                raise InvalidInput(message, "classes")
            if unfit := next((name for name in found.names if not _usable(name)), None):
                message = (
                    f"the name {unfit[:200]!r} in {file.name[:100]!r} is longer than 200 characters or cannot be stored"
                )
                raise InvalidInput(message, "classes")
            return Names(found.names, f"declared; the file {file.name[:100]!r}, {found.reason}")
    return None


def from_beside(files: Sequence[CompanionFile], count: int) -> tuple[Names | None, list[str]]:
    """Return the names in the first file beside the model that names ``count`` classes, and remarks on unused files."""
    chosen: Names | None = None
    remarks: list[str] = []
    for file in files:
        found = Names((), "") if file.given or file.name not in USUAL else read(file)
        if not found.names:
            continue
        if len(found.names) != count or not all(map(_usable, found.names)):
            remarks.append(f"{file.name!r} beside it names {len(found.names)} classes for {count} outputs, not used")
        elif chosen is None:
            chosen = Names(found.names, f"the file {file.name!r} beside it, {found.reason}")
        elif found.names != chosen.names:
            remarks.append(f"{file.name!r} beside it says otherwise and is not used")
    return chosen, remarks


def _usable(name: str) -> bool:
    return 0 < len(name) <= 200 and storable(name)
