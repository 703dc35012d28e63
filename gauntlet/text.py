"""Text from outside, and what a database can hold of it: PostgreSQL no NUL, and UTF-8 no half of a surrogate pair."""

from typing import Annotated

from pydantic import AfterValidator

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def storable(text: str) -> bool:
    """Whether every database and encoding can hold it. Nothing that is kept goes by another name."""
    return cleaned(text) == text


def cleaned(text: str) -> str:
    """The text with what cannot be held replaced."""
    return "".join(
        UNKNOWN if character == "\0" or "\ud800" <= character <= "\udfff" else character for character in text
    )


def checked(text: str) -> str:
    """The text itself. Raises ValueError where it cannot be held."""
    if not storable(text):
        raise ValueError("holds a NUL or half of a surrogate pair, which cannot be stored")
    return text


Storable = Annotated[str, AfterValidator(checked)]
