"""Refusals that wait, and answers that do not."""

import asyncio
from typing import Any

import anyio
import pytest
from starlette.types import Message

from service.middleware import slow_refusals
from service.middleware.slow_refusals import SlowRefusals


class Pause:
    """In place of ``asyncio.sleep``: over when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.over, self.asked = asyncio.Event(), list[float]()
        monkeypatch.setattr(slow_refusals.asyncio, "sleep", self)

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.over.wait()


def answering(status: int) -> SlowRefusals:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"so", "more_body": True})
        await send({"type": "http.response.body", "body": b"me"})

    return SlowRefusals(app)


class Client:
    """Asks once. ``got``: what has been sent to it."""

    def __init__(self) -> None:
        self.got = list[Message]()

    async def ask(self, app: SlowRefusals) -> None:
        async def send(message: Message) -> None:
            self.got.append(message)

        await app({"type": "http"}, anyio.sleep_forever, send)  # type: ignore[arg-type]

    @property
    def answer(self) -> tuple[int, bytes]:
        return self.got[0]["status"], b"".join(message.get("body", b"") for message in self.got)


def test_a_429_is_held_and_then_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        pause, client = Pause(monkeypatch), Client()
        asking = asyncio.create_task(client.ask(answering(429)))
        while not pause.asked:
            await anyio.lowlevel.checkpoint()
        assert client.got == []
        pause.over.set()
        await asking
        assert client.answer == (429, b"some")
        assert pause.asked == [slow_refusals.SECONDS]  # once, not for each part

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [200, 202, 401, 422, 503])
def test_every_other_answer_is_sent_at_once(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        pause, client = Pause(monkeypatch), Client()
        await client.ask(answering(status))
        assert (client.answer, pause.asked) == ((status, b"some"), [])

    asyncio.run(scenario())


def test_no_more_than_so_many_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_refusals, "MOST", 2)

    async def scenario() -> None:
        pause, app, clients = Pause(monkeypatch), answering(429), [Client(), Client(), Client()]
        held = [asyncio.create_task(client.ask(app)) for client in clients[:2]]
        while len(pause.asked) < 2:
            await anyio.lowlevel.checkpoint()
        await clients[2].ask(app)
        assert [len(client.got) for client in clients] == [0, 0, 3]
        pause.over.set()
        await asyncio.gather(*held)
        assert [client.answer for client in clients] == [(429, b"some")] * 3
        await clients[0].ask(app)  # there is room again
        assert len(pause.asked) == 3

    asyncio.run(scenario())
