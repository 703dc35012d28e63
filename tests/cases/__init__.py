"""Small files that went wrong once, each for its kind."""

from pathlib import Path

FOLDER = Path(__file__).parent


def read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()
