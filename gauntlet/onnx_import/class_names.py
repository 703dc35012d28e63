"""Class names from the metadata of an ONNX file, in the formats that exporters and people write.

These are a list in the order of the outputs; an object from outputs to names (``id2label``) or from names to outputs
(``class_to_idx``) with keys in any order; lines of text; words separated by commas. Lists and objects may be written in
JSON or Python.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

KEYS = (
    "names",
    "classes",
    "class_names",
    "classnames",
    "labels",
    "label_names",
    "id2label",
    "idx_to_class",
    "class_to_idx",
    "label2id",
    "categories",
    "character",
)
"""Metadata keys that may hold class names, in any case; ``id2label`` is written by Hugging Face, ``names`` by
Ultralytics, ``class_to_idx`` by torchvision, ``character`` by PaddleOCR."""

LONGEST = 1_000_000  # characters of a metadata entry; longer ones are ignored
LINE = re.compile(r"\s*(\d+)\s*[:,;=\t ]\s*(\S.*)")
"""A line that begins with the number of its class: ``3: cat``."""


@dataclass(frozen=True)
class Names:
    """Class names in the order of the outputs, and where they were found."""

    names: tuple[str, ...]
    reason: str


def from_metadata(metadata: Mapping[str, str], count: int) -> tuple[Names | None, list[str]]:
    """Return the names in the first entry that names ``count`` classes, and remarks on the entries not used."""
    found: Names | None = None
    remarks: list[str] = []
    by_key = {key.lower(): (key, text) for key, text in metadata.items()}
    for key, text in (by_key[key] for key in KEYS if key in by_key):
        names, order = parse(text)
        usable = len(names) == count and all(0 < len(name) <= 200 for name in names)
        if not usable:
            remarks.append(f"its metadata entry {key!r} names {len(names)} classes for {count} outputs and is not used")
        elif found is None:
            found = Names(names, f"the metadata entry {key!r} of the file, {order}")
        elif names != found.names:
            remarks.append(f"its metadata entry {key!r} says otherwise and is not used")
    return found, remarks


def parse(text: str) -> tuple[tuple[str, ...], str]:
    """Return the names in the order of the outputs, and how their order is known; ((), "") if there are no names."""
    if len(text) > LONGEST:
        return (), ""
    value = _literal(text)
    if isinstance(value, dict):  # it may be a whole configuration
        inner = {str(key).lower(): entry for key, entry in value.items()}
        value = next((inner[key] for key in KEYS if isinstance(inner.get(key), (dict, list))), value)
    if isinstance(value, dict):
        return _by_output(value)
    if isinstance(value, (list, tuple)):
        return tuple(map(_word, value)), "in the order of its list"
    return _plain(value if isinstance(value, str) else text)


def _literal(text: str) -> Any:
    """Return the value of the text as JSON or a Python literal; None if it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None


def _by_output(value: Mapping[Any, Any]) -> tuple[tuple[str, ...], str]:
    """Return the names in an object that maps them to numbers, or numbers to them, counted from 0 or 1 without gaps."""
    forward = [(_number(key), _word(name)) for key, name in value.items()]
    backward = [(number if type(number) is int else None, _word(key)) for key, number in value.items()]
    for pairs, order in ((backward, "names by the numbers that they are given"), (forward, "by its keys")):
        numbers = sorted(number for number, _ in pairs if number is not None)
        if numbers == list(range(len(value))):
            return _sorted(pairs), order
        if numbers == list(range(1, len(value) + 1)):
            return _sorted(pairs), f"{order}, counted from 1"
    return (), ""


def _sorted(pairs: Iterable[tuple[int | None, str]]) -> tuple[str, ...]:
    return tuple(name for _, name in sorted((number, name) for number, name in pairs if number is not None))


def _number(key: Any) -> int | None:
    match = re.fullmatch(r"\s*(?:LABEL_)?(\d{1,9})\s*", str(key))
    return int(match[1]) if match else None


def _word(value: Any) -> str:
    """Return one name; the last, if the value is a list for one class, as in ImageNet's class index."""
    return _word(value[-1]) if isinstance(value, (list, tuple)) and value else str(value).strip()


def _plain(text: str) -> tuple[tuple[str, ...], str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1:
        words = tuple(word.strip() for word in text.split(","))
        return (words, "in the order of its words") if len(words) > 1 else ((), "")
    numbered = [LINE.fullmatch(line) for line in lines]
    if lines and all(numbered):
        numbers = {int(match[1]): match[2].strip() for match in numbered if match is not None}
        if sorted(numbers) == list(range(len(lines))):
            return tuple(numbers[number] for number in range(len(lines))), "by the numbers of its lines"
    return tuple(lines), "in the order of its lines"


def duplicates(names: Iterable[str]) -> str:
    """Return a remark on names that several classes share; empty if there are none."""
    several = [name for name, times in Counter(names).items() if times > 1]
    if not several:
        return ""
    return f"several classes are called {', '.join(map(repr, several[:5]))}{' and others' if len(several) > 5 else ''}"
