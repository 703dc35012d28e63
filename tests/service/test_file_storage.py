"""Where the files of uploads lie: a folder, or object storage with copies beside it."""

import hashlib
import os
from pathlib import Path
from typing import IO, cast

import pytest

from gauntlet.artifacts.object_storage import ObjectStorage, StorageError
from gauntlet.errors import InvalidInput
from service.errors import Code, ServiceError
from service.settings import Settings
from service.uploads.file_storage import Bucket, FileStore, Folder, file_store


class Storage:
    """Object storage in memory."""

    url = "s3://bucket"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.downloads = 0

    def download(self, key: str, file: IO[bytes]) -> None:
        if key not in self.files:
            raise FileNotFoundError(key)
        self.downloads += 1
        file.write(self.files[key])

    def upload(self, key: str, file: IO[bytes]) -> None:
        file.seek(0)
        self.files[key] = file.read()

    def exists(self, key: str) -> bool:
        return key in self.files

    def remove(self, key: str) -> None:
        self.files.pop(key, None)

    def ages(self) -> dict[str, float]:
        return dict.fromkeys(self.files, 1e9)


def bucket(storage: object, folder: Path, limit: int = 1000) -> Bucket:
    return Bucket(cast("ObjectStorage", storage), Folder(folder), limit)


def put(files: FileStore, data: bytes) -> str:
    with files.draft() as draft:
        draft.write(data)
        return files.keep(draft)


def content(files: FileStore, sha256: str) -> bytes:
    with files.open(sha256) as file:
        return file.read()


@pytest.fixture(params=["folder", "bucket"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    return Folder(tmp_path / "store") if request.param == "folder" else bucket(Storage(), tmp_path / "copies")


def test_what_is_kept_is_found_by_its_sha256_until_it_is_removed(files: FileStore, tmp_path: Path):
    sha256 = put(files, b"graph")
    assert sha256 == hashlib.sha256(b"graph").hexdigest()
    assert put(files, b"graph") == sha256
    with files.open(sha256) as file:
        assert file.read() == b"graph"
        assert not file.writable()
    files.remove(sha256)
    files.remove(sha256)
    with pytest.raises(FileNotFoundError):
        files.open(sha256)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_draft_that_is_not_kept_leaves_nothing(files: FileStore, tmp_path: Path):
    with files.draft() as draft:
        draft.write(b"half")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_damaged_file_is_none_and_is_replaced(tmp_path: Path):
    files = Folder(tmp_path)
    path = tmp_path / put(files, b"graph")
    path.write_bytes(b"grape")
    with pytest.raises(FileNotFoundError):
        files.open(path.name)
    put(files, b"graph")
    assert content(files, path.name) == b"graph"


def test_another_host_fetches_what_it_opens_once(tmp_path: Path):
    storage = Storage()
    sha256 = put(bucket(storage, tmp_path / "one"), b"graph")
    other = bucket(storage, tmp_path / "other")
    for _ in range(2):
        assert content(other, sha256) == b"graph"
    assert storage.downloads == 1
    (tmp_path / "other" / sha256).write_bytes(b"grape")  # a damaged copy
    assert content(other, sha256) == b"graph"
    assert storage.downloads == 2
    storage.files[sha256] = b"grape"
    with pytest.raises(FileNotFoundError):
        bucket(storage, tmp_path / "third").open(sha256)


def test_copies_that_were_used_longest_ago_make_room(tmp_path: Path):
    storage = Storage()
    files = bucket(storage, tmp_path, limit=10)
    first, second = put(files, b"1234"), put(files, b"5678")
    os.utime(tmp_path / first, (1, 1))
    os.utime(tmp_path / second, (2, 2))
    files.open(first).close()  # used since
    third = put(files, b"90ab")
    assert {path.name for path in tmp_path.iterdir()} == {first, third}
    assert content(files, second) == b"5678"
    large = put(files, b"x" * 20)
    assert {path.name for path in tmp_path.iterdir()} == {large}


class Away(Storage):
    """That nobody reaches."""

    def exists(self, key: str) -> bool:
        raise StorageError("s3://bucket: dispatch failure at 10.1.2.3")

    def download(self, key: str, file: IO[bytes]) -> None:
        self.exists(key)


def test_a_store_that_is_away_is_told_without_its_address(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    files = bucket(Away(), tmp_path / "copies")
    (tmp_path / "file").touch()
    for work in (
        lambda: put(files, b"x"),
        lambda: files.open("0" * 64),
        lambda: put(Folder(tmp_path / "file"), b"x"),
    ):
        with pytest.raises(ServiceError) as caught:
            work()
        assert caught.value.code is Code.STORE_UNAVAILABLE
        assert "10.1.2.3" not in str(caught.value)
    assert "10.1.2.3" in caplog.text


def test_the_setting_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chosen = file_store(Settings(state=tmp_path))
    assert isinstance(chosen, Folder)
    assert chosen.path == tmp_path / "store"
    assert isinstance(file_store(Settings(state=tmp_path, store="s3://bucket/prefix")), Bucket)
    monkeypatch.setitem(__import__("sys").modules, "obstore.store", None)
    with pytest.raises(InvalidInput, match=r"needs gauntlet-robustness\[store\]"):
        file_store(Settings(state=tmp_path, store="s3://bucket"))
