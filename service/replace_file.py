"""Files that other processes read at any moment."""

from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Whoever reads meanwhile finds the file before, or all of the file after. Its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(text)
    draft.replace(path)
