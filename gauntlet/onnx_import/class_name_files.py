"""Text files that name the classes of a model: one that its owner gives, or those that usually lie beside an ONNX file.

``labels.txt`` and the like with one name a line, and the ``config.json`` of Hugging Face, whose ``id2label`` names
them; in every dialect that ``class_names`` reads.
"""

from collections.abc import Sequence

from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import class_names
from gauntlet.onnx_import.class_names import Names
from gauntlet.onnx_import.companion_files import CompanionFile
from gauntlet.text import storable

USUAL = ("labels.txt", "classes.txt", "imagenet_classes.txt", "config.json")
"""Looked for beside the model, in this order."""


def read(file: CompanionFile) -> Names:
    """The names in the order of the outputs, none where there are none; LABEL_0, LABEL_1... name nothing."""
    names, order = class_names.parse(file.content.decode("utf-8-sig", errors="replace"))
    if all(name == f"LABEL_{number}" for number, name in enumerate(names)):
        return Names((), "")
    return Names(names, order)


def from_given(files: Sequence[CompanionFile], count: int) -> Names | None:
    """Of the file that the owner gives; None without one. Raises InvalidInput where it does not name ``count``."""
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
            return Names(found.names, f"said; the file {file.name[:100]!r}, {found.reason}")
    return None


def from_beside(files: Sequence[CompanionFile], count: int) -> tuple[Names | None, list[str]]:
    """Of the first file beside the model that names ``count`` classes; and a remark on every other that names some."""
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
