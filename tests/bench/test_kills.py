"""The client that asks while processes are killed, and which process is of what kind."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.serving.kills import Again, Client, kind


class Killed(BaseHTTPRequestHandler):
    """Hangs up, then is not there, then answers; at /wrong it fails as nothing that was killed does."""

    asked = 0

    def do_GET(self) -> None:
        Killed.asked += 1
        if Killed.asked == 1:
            return
        self.send_response(500 if self.path == "/wrong" else 503 if Killed.asked == 2 else 200)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def client() -> Iterator[Client]:
    Killed.asked = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Killed) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Client(server.server_port)
        server.shutdown()


def test_what_was_killed_is_asked_again(client: Client):
    assert client("GET", "/").status_code == 200
    assert client.met == {"RemoteProtocolError": 1, "GET 503": 1, "GET 200": 1}


def test_another_error_is_a_fault(client: Client):
    with pytest.raises(RuntimeError, match="GET /wrong: 500"):
        client("GET", "/wrong")


def test_another_answer_is_a_fault():
    answers = iter([1, 1, 2])
    one = Again("report", lambda: next(answers), 1, threading.Event())
    one.run()
    assert (one.done, one.fault) == (2, "report: 2 instead of 1")


@pytest.mark.parametrize(
    ("name", "command", "found"),
    [
        ("compute", ["python", "-m", "service"], "compute"),
        ("python", ["python", "-m", "service"], None),
        ("python", ["python", "-m", "service.worker", "--parent", "1"], "worker"),
        ("python", ["python", "-m", "_bentoml_impl.worker.service", "--service-name", "gauntlet"], "api"),
        ("python3", ["python", "-m", "gauntlet.sandbox.fork_server_main", "5"], "sandbox"),
    ],
)
def test_every_process_but_the_parent_has_a_kind(name: str, command: list[str], found: str | None):
    assert kind(name, command) == found
