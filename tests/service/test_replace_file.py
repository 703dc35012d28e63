"""A file that other processes read at any moment, and that several may write."""

import os
from pathlib import Path

import pytest

from service.replace_file import replace_text


def test_two_that_write_at_once_both_succeed_and_the_last_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, replace = tmp_path / "folder" / "file", os.replace

    def replace_after_another(*given: object) -> None:
        monkeypatch.setattr(os, "replace", replace)
        replace_text(path, "another's")
        replace(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "replace", replace_after_another)
    replace_text(path, "ours")
    assert path.read_text() == "ours"
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_leaves_no_file(tmp_path: Path):
    path = tmp_path / "a folder"
    path.mkdir()
    with pytest.raises(OSError, match="folder"):
        replace_text(path, "text")
    with pytest.raises(UnicodeEncodeError):
        replace_text(tmp_path / "file", "\ud800")
    assert list(tmp_path.iterdir()) == [path]
