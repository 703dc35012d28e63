"""Small requests that wait together are computed together, and each is answered as if it had come alone."""

import asyncio
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import anyio
import numpy as np
import pytest

from gauntlet.errors import InvalidInput, ModelFailed
from gauntlet.runtime.served import ServedClassifier
from service.errors import Code, ServiceError
from service.observability import metrics
from service.predictions.classify_requests import ClassifyRequests
from service.scheduling import batching
from service.scheduling.batching import MOST, SOON, Batcher
from service.scheduling.bounded_queue import BoundedQueue
from service.schemas.main_calls import ClassifyRequest, ClassifyResponse
from service.settings import Settings
from tests import tiny
from tests.service.conftest import PATIENCE, arrays, pngs
from tests.service.models import classify_requests


class Work:
    """Answers a request with itself, once it may; remembers what came together."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, list[Any]]] = []
        self.running, self.release = threading.Event(), threading.Event()

    def __call__(self, key: str, requests: Sequence[Any]) -> list[Any]:
        self.seen.append((key, list(requests)))
        self.running.set()
        assert self.release.wait(PATIENCE)
        return list(requests)


async def behind_one(work: Work, batches: Batcher[Any, Any], *others: tuple[str, Any]) -> list[Any]:
    """The answers, or errors, of requests that come while one for the model "a" computes."""
    first = asyncio.create_task(batches.run("a", 0))
    await anyio.to_thread.run_sync(work.running.wait, PATIENCE)
    rest = [asyncio.create_task(batches.run(*other)) for other in others]
    await asyncio.sleep(0)  # each has run until it waits
    work.release.set()
    return [await first, *await asyncio.gather(*rest, return_exceptions=True)]


def test_who_comes_while_one_computes_is_in_the_next_batch_of_its_model():
    work = Work()
    batches = Batcher(BoundedQueue(1, 10, "predictions"), work)
    answers = anyio.run(behind_one, work, batches, ("a", 1), ("b", 2), ("a", 3))
    assert answers == [0, 1, 2, 3]
    assert work.seen[0] == ("a", [0])
    assert sorted(work.seen[1:]) == [("a", [1, 3]), ("b", [2])]


def test_a_batch_has_its_size():
    work = Work()
    batches = Batcher(BoundedQueue(1, 100, "predictions"), work)
    anyio.run(behind_one, work, batches, *(("a", i) for i in range(1, MOST + 3)))
    assert [len(requests) for _, requests in work.seen] == [1, MOST, 2]


def test_an_error_is_whose_it_is():
    bad = InvalidInput("bad")

    def work(_: str, requests: Sequence[Any]) -> list[Any]:
        return [bad if request == "bad" else request for request in requests]

    async def main() -> list[Any]:
        batches = Batcher(BoundedQueue(1, 10, "predictions"), work)
        return await asyncio.gather(*(batches.run("a", name) for name in ("x", "bad", "y")), return_exceptions=True)

    assert anyio.run(main) == ["x", bad, "y"]


def test_what_fails_as_a_whole_fails_for_everybody_and_the_next_are_computed():
    calls: list[int] = []

    def work(_: str, requests: Sequence[Any]) -> list[Any]:
        calls.append(len(requests))
        if len(calls) == 1:
            raise ModelFailed("gone")
        return list(requests)

    async def main() -> list[Any]:
        batches = Batcher(BoundedQueue(1, 10, "predictions"), work)
        both = await asyncio.gather(batches.run("a", 1), batches.run("a", 2), return_exceptions=True)
        return [*both, await batches.run("a", 3)]

    first, second, third = anyio.run(main)
    assert isinstance(first, ModelFailed)
    assert isinstance(second, ModelFailed)
    assert third == 3
    assert calls == [2, 1]


def test_only_so_many_wait():
    work = Work()
    batches = Batcher(BoundedQueue(1, 2, "predictions"), work)
    *answers, refused = anyio.run(behind_one, work, batches, ("a", 1), ("a", 2), ("a", 3))
    assert answers == [0, 1, 2]
    assert refused.code is Code.TOO_BUSY


def test_what_is_soon_done_needs_no_thread(monkeypatch):
    now, slow, threads = 0.0, 0.0, []
    monkeypatch.setattr(batching, "time", SimpleNamespace(perf_counter=lambda: now))

    def work(_: str, requests: Sequence[Any]) -> Sequence[Any]:
        nonlocal now
        threads.append(threading.current_thread() is threading.main_thread())
        now += slow
        return requests

    async def ask(made: Batcher[Any, Any]) -> None:
        await made.run("a", 0)

    async def some() -> None:
        nonlocal slow
        queue = BoundedQueue(1, 10, "predictions")
        made = Batcher(queue, work, prompt=True)
        await ask(made)  # nobody knows yet
        await ask(made)
        assert threads == [False, True]
        slow = 2 * SOON
        await ask(made)  # it has become slow: that is noticed once
        await ask(made)
        assert threads[2:] == [True, False]
        other = Batcher(queue, work)
        for _ in range(3):  # what may wait for something else never keeps the loop
            await ask(other)
        assert threads[4:] == [False, False, False]

    anyio.run(some)


def test_who_has_gone_is_not_computed():
    work = Work()
    batches = Batcher(BoundedQueue(1, 10, "predictions"), work)

    async def main() -> Any:
        first = asyncio.create_task(batches.run("a", 0))
        await anyio.to_thread.run_sync(work.running.wait, PATIENCE)
        gone, stays = (asyncio.create_task(batches.run("a", i)) for i in (1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        work.release.set()
        return await first, await stays

    assert anyio.run(main) == (0, 2)
    assert [requests for _, requests in work.seen] == [[0], [2]]


# Requests to /classify


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> ClassifyRequests:
    folder = tmp_path_factory.mktemp("together")
    tiny.linear(folder / "models/artifacts/linear")
    (folder / "models/evalsets").mkdir()
    return classify_requests(Settings(models=folder / "models", state=folder, data=folder, threads=1))


def asked(*images: Any, **options: Any) -> ClassifyRequest:
    return ClassifyRequest(model="linear", images=list(images), **options)


def test_each_is_answered_as_if_it_had_come_alone(requests: ClassifyRequests):
    several = [asked(*pngs(1)), asked(*arrays(3, seed=1)), asked(*pngs(2, seed=2))]
    for together, request in zip(requests.answer_together("linear", several), several, strict=True):
        alone = requests.answer(request)
        assert isinstance(together, ClassifyResponse)
        assert [one.label for one in together.predictions] == [one.label for one in alone.predictions]
        for one, other in zip(together.predictions, alone.predictions, strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)
            assert one.certified_radius == pytest.approx(other.certified_radius, abs=1e-6)


def test_a_bad_request_fails_alone_and_before_the_run(requests: ClassifyRequests, monkeypatch):
    runs: list[int] = []
    predict = ServedClassifier.predict
    monkeypatch.setattr(ServedClassifier, "predict", lambda self, x: runs.append(len(x)) or predict(self, x))
    good, bad, other = requests.answer_together("linear", [asked(*pngs(1)), asked("AAAA"), asked(*pngs(2))])
    assert isinstance(good, ClassifyResponse)
    assert isinstance(bad, InvalidInput)
    assert bad.field == "images.0"
    assert isinstance(other, ClassifyResponse)
    assert runs == [3]


def test_only_bad_ones_are_no_run(requests: ClassifyRequests, monkeypatch):
    monkeypatch.setattr(ServedClassifier, "predict", lambda *_: pytest.fail("computed"))
    assert all(isinstance(found, InvalidInput) for found in requests.answer_together("linear", [asked("AAAA")] * 2))


def test_what_poisons_a_run_is_tried_alone(requests: ClassifyRequests, monkeypatch):
    predict = ServedClassifier.predict

    def poisoned(self: ServedClassifier, x: np.ndarray) -> np.ndarray:
        if (x == 0).all(axis=(1, 2, 3)).any():
            raise ModelFailed("poison")
        return predict(self, x)

    monkeypatch.setattr(ServedClassifier, "predict", poisoned)
    black = [[0.0] * 8] * 8
    good, bad = requests.answer_together("linear", [asked(*pngs(1)), asked(black)])
    assert isinstance(good, ClassifyResponse)
    assert isinstance(bad, ModelFailed)


def test_an_unknown_model_is_everybodys_error(requests: ClassifyRequests):
    found = requests.answer_together("none", [asked(*pngs(1))] * 2)
    assert [error.code for error in found if isinstance(error, ServiceError)] == [Code.UNKNOWN_MODEL] * 2


def test_every_image_is_counted_once(requests: ClassifyRequests):
    counter = metrics.IMAGES.labels("linear", "/classify")
    before = counter._value.get()
    requests.answer_together("linear", [asked(*pngs(2)), asked("AAAA"), asked(*pngs(1))])
    requests.answer(asked(*pngs(4)))
    assert counter._value.get() - before == 7
