"""The store of uploads in object storage, on an S3 server in an environment of its own: `make test-s3` installs it."""

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gauntlet.artifacts.object_storage import PIECE, ObjectStorage
from gauntlet.errors import InvalidInput
from gauntlet.onnx_import.model_sources import fetched
from service import doctor
from service.errors import Code, ServiceError
from service.settings import Settings
from service.uploads.file_storage import Bucket, file_store
from service.uploads.records import UploadRecords
from tests.ports import free_port
from tests.service.conftest import PATIENCE, ROOT, wait_for

PYTHON = ROOT / ".venv-s3" / "bin" / "python"
SERVER = "import sys; from moto.server import main; main(['--host', '127.0.0.1', '--port', sys.argv[1]])"
BUCKET = "uploads"

pytestmark = [
    pytest.mark.s3,
    pytest.mark.skipif(not PYTHON.exists(), reason="make test-s3 installs the server"),
]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    port = free_port()
    server = subprocess.Popen([PYTHON, "-c", SERVER, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: httpx.put(f"{url}/{BUCKET}", timeout=PATIENCE).status_code == 200)
    yield url
    server.terminate()
    server.wait(PATIENCE)


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place of it."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    storage = ObjectStorage(f"s3://{BUCKET}")
    for key in storage.ages():
        storage.remove(key)
    return f"s3://{BUCKET}/some/place"


def host(s3: str, folder: Path) -> UploadRecords:
    """Of one host: the job database is shared, copies are its own."""
    url = f"sqlite:///{folder.parent / 'jobs.sqlite'}"
    (folder.parent / "jobs.sqlite").touch()
    return UploadRecords(url, file_store(Settings(state=folder, store=s3)))


@pytest.mark.parametrize("size", [0, 5, 3 * PIECE + 7])
def test_what_one_host_keeps_another_opens_until_it_is_removed(s3: str, tmp_path: Path, size: int):
    one, other = host(s3, tmp_path / "one"), host(s3, tmp_path / "other")
    data = hashlib.shake_128(b"graph").digest(size)
    sha256 = hashlib.sha256(data).hexdigest()
    with one.files.draft() as draft:
        draft.write(data)
        one.add("model", "mine", sha256, draft, "{}", 9)
    assert list(ObjectStorage(s3).ages()) == [sha256]
    with other.files.open(sha256) as file:
        assert file.read() == data
    other.remove("model", "mine")
    assert list(ObjectStorage(s3).ages()) == []
    third = host(s3, tmp_path / "third")
    with pytest.raises(FileNotFoundError):
        third.files.open(sha256)
    for storage in (one, other, third):
        storage.close()


def test_a_model_is_fetched_from_where_it_lies(s3: str, tmp_path: Path):
    (tmp_path / "m.onnx").write_bytes(b"graph")
    with (tmp_path / "m.onnx").open("rb") as file:
        ObjectStorage(s3).upload("m.onnx", file)
    with fetched(f"{s3}/m.onnx") as found:
        assert found.file.read_bytes() == b"graph"
        assert found.address == f"{s3}/m.onnx#sha256={hashlib.sha256(b'graph').hexdigest()}"
    with pytest.raises(InvalidInput, match="there is no such file"), fetched(f"{s3}/none.onnx"):
        pass


def test_a_bucket_that_is_not_there_is_told(s3: str, tmp_path: Path):
    settings = Settings(state=tmp_path, store="s3://nobodys/place")
    files = file_store(settings)
    assert isinstance(files, Bucket)
    with files.draft() as draft:
        draft.write(b"x")
        with pytest.raises(ServiceError) as caught:
            files.keep(draft)
    assert caught.value.code is Code.STORE_UNAVAILABLE
    assert "store of uploads" in str(caught.value)
    assert "written, read and removed" in doctor.CHECKS["store"](Settings(state=tmp_path, store=s3))
