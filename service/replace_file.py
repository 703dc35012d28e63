"""Files that other processes read at any moment."""

import tempfile
from pathlib import Path

Stamp = tuple[int, int, int]
"""Of a file: another where the file is another."""


def replace_text(path: Path, text: str) -> None:
    """Whoever reads meanwhile finds the file before, or all of the file after. Its folder is made if need be.

    Several may write at once, each to a temporary file of its own: the last one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(text)
            file.close()
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def stamp(path: Path) -> Stamp:
    """Changes whenever ``replace_text`` or anybody else has written the file. Raises OSError where there is none."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
