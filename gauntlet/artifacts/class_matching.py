"""Whose class is which: labels of images in the order of a model's outputs, by the names that both have for them."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]

NUMBER = re.compile(r"[0-9]{1,9}")
SHOWN = 5  # names in a message


def numbered(classes: Sequence[str]) -> bool:
    """Whether the names are 0, 1, 2...: then nobody has named anything."""
    return tuple(classes) == tuple(map(str, range(len(classes))))


def relabelled(labels: Labels, names: Sequence[str], classes: Sequence[str]) -> Labels | None:
    """Labels (N,) of classes called ``names``, as places in ``classes``; None where a class is not found there.

    Names are matched whatever their order, case, spaces and underscores. Where ``names`` are nothing but numbers and
    no class has a number for a name, they are the places.
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
    """The place of each name among those wanted; None for one that is not there, or there more than once."""
    for key in (str, _key):
        ours, theirs = list(map(key, wanted)), list(map(key, names))
        single = {name for name, times in Counter(ours).items() if times == 1}
        once = {name for name, times in Counter(theirs).items() if times == 1}
        found = [ours.index(name) if name in single & once else None for name in theirs]
        if None not in found:
            break
    return found


def _key(name: str) -> str:
    """What is left of a name that is written in different ways."""
    plain = " ".join(re.split(r"[\s_-]+", name.casefold().strip()))
    return str(int(plain)) if NUMBER.fullmatch(plain) else plain


def mismatch(images: str, names: Sequence[str], model: str, classes: Sequence[str]) -> str:
    """What to tell somebody whose images have classes that the model does not have."""
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
    return ", ".join(map(repr, names[:SHOWN])) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
