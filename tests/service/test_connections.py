"""Clients that send half a request, read nothing, or open too many connections: real sockets, a real server."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial

import anyio
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service import connections
from service.connections import LimitedConnection, OpenConnections
from tests.service.conftest import PATIENCE, wait_for

HALF = b"GET / HTTP/1.1\r\nHost: here\r\nX-Never: "
WHOLE = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
LARGE = 2**26  # bytes: more than the buffers of both sockets hold


class Application:
    """Answers, once it is let go on, with so many bytes."""

    def __init__(self, size: int = 2) -> None:
        self.size, self.asked, self.go_on = size, 0, threading.Event()
        self.go_on.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        while not self.go_on.is_set():
            await anyio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % self.size)]})
        await send({"type": "http.response.body", "body": bytes(self.size)})


@pytest.fixture
def limited(settings: Callable[..., None]) -> Iterator[Callable[..., None]]:
    """Sets limits of this process."""

    def choose(**values: object) -> None:
        settings(api_workers=1, **values)
        connections.limits.cache_clear()
        connections.open_connections.cache_clear()
        connections.open_connections()  # before several threads ask for it

    yield choose
    connections.limits.cache_clear()
    connections.open_connections.cache_clear()


@contextlib.contextmanager
def served(app: Application) -> Iterator[Callable[[], socket.socket]]:
    """Opens connections to a server of the application."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as opened:
        config = uvicorn.Config(app, http=LimitedConnection, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        opened.callback(thread.join)
        opened.callback(lambda: setattr(server, "should_exit", True))
        yield lambda: opened.enter_context(socket.create_connection(listener.getsockname(), PATIENCE))


def closed(client: socket.socket) -> bool:
    """Whether the server ends the connection without an answer. Waits for either."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def waiting(number: int) -> bool:
    return len(connections.open_connections()._waiting.get("127.0.0.1", ())) == number


def answer(client: socket.socket) -> int:
    """The status, once all has been read: head and body may come apart."""
    client.sendall(WHOLE)
    response = http.client.HTTPResponse(client)
    response.begin()
    response.read()
    return response.status


def test_a_half_sent_request_is_not_waited_for(limited):
    limited(header_seconds=0.2)
    with served(Application()) as connect:
        nothing, half, second = connect(), connect(), connect()
        half.sendall(HALF)
        assert answer(second) == 200
        second.sendall(HALF)
        assert all(map(closed, (nothing, half, second)))


@pytest.mark.parametrize("limit", ["connections", "connections_of_one"])
def test_half_sent_requests_keep_nobody_out(limited, limit: str):
    limited(header_seconds=PATIENCE, **{limit: 3})
    app = Application()
    with served(app) as connect:
        clients = []
        for number in range(1, 4):
            clients.append(connect())
            clients[-1].sendall(HALF)
            wait_for(partial(waiting, number), every=0.01)
        first, second, _ = clients
        assert answer(connect()) == 200
        assert closed(first)
        second.sendall(b"x\r\n\r\n")
        assert second.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_where_all_are_being_answered_another_gets_503(limited):
    limited(connections_of_one=2)
    app = Application()
    app.go_on.clear()
    with served(app) as connect:
        clients = [connect(), connect()]
        for client in clients:
            client.sendall(WHOLE)
        wait_for(lambda: app.asked == 2, every=0.01)
        head, _, body = connect().recv(65536).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after" in head
        assert json.loads(body)["error"]["code"] == "overloaded"
        app.go_on.set()
        assert all(client.recv(65536).startswith(b"HTTP/1.1 200 ") for client in clients)


def test_a_trusted_proxy_is_not_one_client(limited):
    limited(connections_of_one=1, connections=3, trusted_proxies="127.0.0.0/8")
    app = Application()
    app.go_on.clear()
    with served(app) as connect:
        clients = [connect() for _ in range(3)]
        for client in clients:
            client.sendall(WHOLE)
        wait_for(lambda: app.asked == 3, every=0.01)
        assert connect().recv(65536).startswith(b"HTTP/1.1 503 ")  # for all of them together there is a limit
        app.go_on.set()
        assert all(client.recv(65536).startswith(b"HTTP/1.1 200 ") for client in clients)


def test_who_reads_nothing_is_disconnected_and_who_reads_gets_all(limited):
    limited(read_seconds=0.2)
    with served(Application(LARGE)) as connect:
        reads, reads_nothing = connect(), connect()
        for client in (reads, reads_nothing):
            client.sendall(WHOLE)
        got = 0
        while got < LARGE:
            got += len(reads.recv(2**20))
        wait_for(lambda: sum(map(len, connections.open_connections()._open.values())) <= 1, every=0.01)
        left = 0
        with contextlib.suppress(ConnectionError):
            while part := reads_nothing.recv(2**20):
                left += len(part)
        assert left < LARGE


def test_answers_that_nobody_reads_take_a_bounded_share_of_memory(limited):
    limited(max_bodies=LARGE)
    with served(Application(LARGE)) as connect:
        for _ in range(3):
            client = connect()
            client.sendall(WHOLE)
            assert client.recv(1, socket.MSG_PEEK)
            wait_for(lambda: sum(map(len, connections.open_connections()._open.values())) == 1, every=0.01)
        got = 0
        while got < LARGE:
            got += len(client.recv(2**20))


def test_a_connection_serves_one_request_after_the_other(limited):
    limited(header_seconds=PATIENCE)
    with served(Application()) as connect:
        client = connect()
        assert all(answer(client) == 200 for _ in range(3))
        client.sendall(2 * WHOLE)
        got = b""
        while got.count(b"HTTP/1.1 200 ") < 2:
            got += client.recv(65536)


class Fake:
    """A connection that can be told that it was closed."""

    def __init__(self) -> None:
        self.transport, self.aborted = self, False

    def abort(self) -> None:
        self.aborted = True


def test_the_address_with_the_most_waiting_connections_makes_room():
    opened = OpenConnections(most=4, most_of_one=3, most_unread=1)
    patient, greedy = Fake(), [Fake() for _ in range(3)]
    for connection, address in ((patient, "a"), *((each, "b") for each in greedy)):
        assert opened.add(connection, address)
        opened.waits(connection, address)
    assert opened.add(Fake(), "c")
    assert [each.aborted for each in (patient, *greedy)] == [False, True, False, False]
    for connection, address in ((patient, "a"), *((each, "b") for each in greedy[1:])):
        opened.answering(connection, address)
    assert not opened.add(Fake(), "d")
    opened.remove(greedy[1], "b")
    assert opened.add(Fake(), "d")
