"""Matching of classes by name: renumbers the labels of images in the order of a model's outputs."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]

NUMBER = re.compile(r"[0-9]{1,9}")
SHOWN = 5  # names that a message lists


def numbered(classes: Sequence[str]) -> bool:
    """Whether the names are 0, 1, 2, ..., that is, the classes have no names."""
    return tuple(classes) == tuple(map(str, range(len(classes))))


def relabelled(labels: Labels, names: Sequence[str], classes: Sequence[str]) -> Labels | None:
    """Convert labels (N,), indices of ``names``, to indices of ``classes``; None if a name has no match there.

    Order, case, spaces, hyphens and underscores of the names are ignored. If all ``names`` are numbers, and no class is
    called by a number, the names are themselves the indices.
    """
    places = _by_name(names, classes)
    if None in places:
        if any(map(NUMBER.fullmatch, classes)) or not all(map(NUMBER.fullmatch, names)):
            return None
        places = list(map(int, names))
        if max(map(int, names)) >= len(classes):
            return None
    moved: Labels = np.asarray(places, np.int64)[labels]
    return moved


def _by_name(names: Sequence[str], wanted: Sequence[str]) -> list[int | None]:
    """Return the index of each name in ``wanted``; None for one that is missing, or occurs more than unique_names."""
    for key in (str, _key):
        wanted_keys, name_keys = list(map(key, wanted)), list(map(key, names))
        unique_wanted = {name for name, count in Counter(wanted_keys).items() if count == 1}
        unique_names = {name for name, count in Counter(name_keys).items() if count == 1}
        found = [wanted_keys.index(name) if name in unique_wanted & unique_names else None for name in name_keys]
        if None not in found:
            break
    return found


def _key(name: str) -> str:
    """Return the name in lower case, with one kind of separator; a number without leading zeros."""
    plain = " ".join(re.split(r"[\s_-]+", name.casefold().strip()))
    return str(int(plain)) if NUMBER.fullmatch(plain) else plain


def mismatch(images: str, names: Sequence[str], model: str, classes: Sequence[str]) -> str:
    """Return the error message for images with classes that the model does not have."""
    missing = [name for name, place in zip(names, _by_name(names, classes), strict=True) if place is None]
    if numbered(classes):
        named = f"the {len(classes)} outputs of {model} have no names"
    else:
        named = f"{model} has {_shown([name for name in classes if name not in names] or classes)}"
    return (
        f"{images} has images of {_shown(missing)}, and {named}; "
        "declare the classes of your own model or images, in the order of its outputs or their labels"
    )


def _shown(names: Sequence[str]) -> str:
    """List the first SHOWN names, and the number of the others."""
    return ", ".join(map(repr, names[:SHOWN])) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
