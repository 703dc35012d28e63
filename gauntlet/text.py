"""Validation of text that databases must store: PostgreSQL allows no NUL, and UTF-8 no half of a surrogate pair."""

from typing import Annotated

from pydantic import AfterValidator

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def storable(text: str) -> bool:
    """Return whether every database and encoding can store the text. No stored object has any other name."""
    return cleaned(text) == text


def cleaned(text: str) -> str:
    """Return the text with the characters that cannot be stored replaced."""
    return "".join(
        UNKNOWN if character == "\0" or "\ud800" <= character <= "\udfff" else character for character in text
    )


def checked(text: str) -> str:
    """Return the text unchanged. Raises ValueError if it cannot be stored."""
    if not storable(text):
        raise ValueError("holds a NUL or half of a surrogate pair, which cannot be stored")
    return text


Storable = Annotated[str, AfterValidator(checked)]
