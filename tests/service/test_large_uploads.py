"""Bodies of gigabytes, made up while they are sent: refused where they are too large or no model, never in memory."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import Server, arrays, build_models

pytestmark = pytest.mark.slow

LIMIT = 2**31
PIECE = 2**20
BOUNDARY = "gauntlet"
SETTINGS = json.dumps({"name": "large"}).encode()
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="settings"\r\n\r\n'.encode()
    + SETTINGS
    + f'\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="m.onnx"\r\n\r\n'.encode()
)
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("large")
    build_models(folder)
    running = Server(folder, {"body_seconds": 600, "api_workers": 1})
    running.start()
    yield running
    running.stop()


def zeros(count: int) -> Iterator[bytes]:
    """So many, in pieces."""
    for _ in range(count // PIECE):
        yield bytes(PIECE)
    yield bytes(count % PIECE)


def body(content: Iterator[bytes]) -> Iterator[bytes]:
    yield HEAD
    yield from content
    yield TAIL


def memory(server: Server) -> int:
    """Bytes of the processes that answer and of the one that computes."""
    return sum(process.memory_info().rss for process in (*server.api(), server.compute()))


def send(server: Server, content: Iterator[bytes]) -> tuple[httpx.Response, int]:
    """The answer, and by how much those processes have grown."""
    before = memory(server)
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    answer = server.client.post("/models", content=content, headers=headers)
    return answer, memory(server) - before


def assert_unharmed(server: Server) -> None:
    assert server.client.post("/classify", json={"model": "linear", "images": arrays(1)}).status_code == 200
    store = server.folder / "state" / "store"
    assert not store.exists() or list(store.iterdir()) == []


def test_a_file_of_almost_two_gibibytes_that_is_no_model_is_refused_with_the_reason(large: Server):
    answer, grown = send(large, body(zeros(LIMIT - PIECE)))
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["details"]["field"] == "file"
    assert grown < 2**28
    failed = large.client.get("/models/large").json()
    assert (failed["state"], failed["error"]["message"]) == ("failed", answer.json()["error"]["message"])
    assert_unharmed(large)


def test_a_body_beyond_the_limit_is_refused_as_it_comes(large: Server):
    try:
        answer, grown = send(large, body(zeros(LIMIT + PIECE)))
    except httpx.TransportError:  # the connection is closed on who sends on
        grown = 0
    else:
        assert answer.status_code == 413, answer.text
    assert grown < 2**28
    assert_unharmed(large)


def test_a_truncated_part_is_refused(large: Server):
    answer, _ = send(large, iter([HEAD, *zeros(2**26)]))
    assert answer.status_code in (400, 422), answer.text
    assert_unharmed(large)


def test_a_zip_that_expands_to_gigabytes_is_refused(large: Server, tmp_path: Path):
    bomb = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("m.onnx", "w", force_zip64=True) as file,
    ):
        for piece in zeros(3 * 2**30):
            file.write(piece)
    assert bomb.stat().st_size < 2**23
    answer, grown = send(large, body(iter([bomb.read_bytes()])))
    assert answer.status_code == 422, answer.text
    assert "at most" in answer.json()["error"]["message"]
    assert grown < 2**28
    assert_unharmed(large)
