"""The names of a model's classes, from the metadata of its file, in the dialects that exporters and people write.

A list in the order of the outputs; an object from outputs to names (``id2label``) or from names to outputs
(``class_to_idx``), its keys in any order; lines; words with commas between them. Lists and objects in JSON or Python.
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
"""Keys under which class names are looked for, whatever their case; ``id2label`` is of Hugging Face, ``names`` of
Ultralytics, ``class_to_idx`` of torchvision, ``character`` of PaddleOCR."""

LONGEST = 1_000_000  # characters of one entry
LINE = re.compile(r"\s*(\d+)\s*[:,;=\t ]\s*(\S.*)")
"""A line that says its own number: ``3: cat``."""


@dataclass(frozen=True)
class Names:
    """Class names in the order of the outputs, and how they were found."""

    names: tuple[str, ...]
    reason: str


def from_metadata(metadata: Mapping[str, str], count: int) -> tuple[Names | None, list[str]]:
    """The first entry that names ``count`` classes; and a remark on every other that was looked at."""
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
    """The names in the order of the outputs, and in words how that order is known; no names where there are none."""
    if len(text) > LONGEST:
        return (), ""
    value = _literal(text)
    if isinstance(value, dict):  # a whole configuration may lie there
        inner = {str(key).lower(): entry for key, entry in value.items()}
        value = next((inner[key] for key in KEYS if isinstance(inner.get(key), (dict, list))), value)
    if isinstance(value, dict):
        return _by_output(value)
    if isinstance(value, (list, tuple)):
        return tuple(map(_word, value)), "in the order of its list"
    return _plain(value if isinstance(value, str) else text)


def _literal(text: str) -> Any:
    """The value that the text writes in JSON or Python; None where it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None


def _by_output(value: Mapping[Any, Any]) -> tuple[tuple[str, ...], str]:
    """Names by number or numbers by name. Numbers that do not count from 0, or from 1, name nothing."""
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
    """A name; of several for one class, as ImageNet's index has them, the last."""
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
    """A remark on names that several classes share; empty where none do."""
    several = [name for name, times in Counter(names).items() if times > 1]
    if not several:
        return ""
    return f"several classes are called {', '.join(map(repr, several[:5]))}{' and others' if len(several) > 5 else ''}"
