"""What goes wrong in production, done to a real server: it answers what it can, says what it cannot, and heals."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.service.conftest import LONG_REPORT, PATIENCE, SHORT_REPORT, Server, arrays, build_models, wait_for
from tests.service.test_start import refusal

pytestmark = pytest.mark.slow

SIZE = 16 * 2**20  # bytes of the disk that holds the state folder
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts a small disk")


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("faults")
    build_models(folder)
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0:
            stack.enter_context(disk(folder / "state"))
        server = Server(folder, {"attack_deadline": PATIENCE, "attack_budget": 10**9})
        server.start()
        yield server
        server.stop()


def classifies(server: Server) -> bool:
    return server.client.post("/classify", json={"model": "linear", "images": arrays(1)}).status_code == 200


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """A disk without a free block."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert psutil.disk_usage(str(folder)).free == 0
    yield
    filler.unlink()


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    yield


@as_root
def test_without_room_for_a_job_only_reports_are_refused_and_those_accepted_go_on_later(server: Server):
    report = server.submit(LONG_REPORT)
    wait_for(lambda: server.status(report)["progress"] > 0)
    with full(server.folder / "state"):
        answers = [server.client.post("/robustness-report", json=SHORT_REPORT) for _ in range(3)]
        refused = [answer for answer in answers if answer.status_code == 503]
        assert refused, [answer.text for answer in answers]
        assert {answer.json()["error"]["code"] for answer in refused} == {"jobs_unavailable"}
        assert all(answer.headers["retry-after"] for answer in refused)
        assert classifies(server)
        assert server.client.get("/livez").status_code == 200
        assert server.metrics()["gauntlet_state_free_bytes"] == 0
    status = server.finished(report)
    assert status["status"] == "succeeded", status
    assert server.finished(server.submit(SHORT_REPORT))["status"] == "succeeded"


@as_root
def test_a_state_folder_that_cannot_be_written_ends_the_start_with_its_name(tmp_path: Path):
    build_models(tmp_path)
    with disk(tmp_path / "state") as state, read_only(state):
        reason = refusal(tmp_path)
    assert f"GAUNTLET_STATE={state}: cannot be written" in reason
    assert "Read-only file system" in reason


HEAD = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


def test_slow_clients_keep_nobody_waiting(server: Server):
    """Each has sent its head and one byte of the body, and waits."""
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(HEAD + b"{")
        assert all(classifies(server) for _ in range(20))
    assert classifies(server)


def test_clients_that_go_leave_nothing_behind(server: Server):
    """Half a body, and a whole attack that nobody waits for: the next attack gets its slot."""
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(HEAD + b'{"model"')
    attack = {"model": "conv", "attack": "pgd", "norm": "l2", "eps": 0.5, "images": arrays(1)}
    endless = {**attack, "eps": 1e-4, "params": {"steps": 10_000, "restarts": 50}}
    with contextlib.suppress(httpx.ReadTimeout):
        httpx.post(f"{server.client.base_url}/attack", json=endless, timeout=httpx.Timeout(PATIENCE, read=1))
    assert server.client.post("/attack", json=attack).status_code == 200
    assert classifies(server)
    assert wait_for(lambda: connections(server) <= 2)
    errors = {name: value for name, value in server.metrics().items() if 'status="500"' in name}
    assert errors
    assert not any(errors.values())


def connections(server: Server) -> int:
    held = [connection for process in server.api() for connection in process.net_connections("tcp")]
    return sum(connection.status == "ESTABLISHED" for connection in held)


def test_the_processes_that_answer_come_back_when_killed_and_reports_do_not_notice(server: Server):
    report = server.submit(LONG_REPORT)
    wait_for(lambda: server.status(report)["progress"] > 0)
    worker = server.worker()
    killed = server.api()
    for process in killed:
        process.kill()
    wait_for(lambda: classifies(server))
    wait_for(lambda: len(set(server.api()) - set(killed)) == 2)
    assert server.worker() == worker
    assert server.finished(report)["status"] == "succeeded"
