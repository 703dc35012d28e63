"""Files that other processes read at any moment."""

from pathlib import Path

Stamp = tuple[int, int, int]
"""Of a file: another where the file is another."""


def replace_text(path: Path, text: str) -> None:
    """Whoever reads meanwhile finds the file before, or all of the file after. Its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(text)
    draft.replace(path)


def stamp(path: Path) -> Stamp:
    """Changes whenever ``replace_text`` or anybody else has written the file. Raises OSError where there is none."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
