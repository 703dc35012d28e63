"""Small requests that wait together are computed together, and each is answered as if it had come alone."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest
import torch

from gauntlet.errors import InvalidInput, ModelFailed
from gauntlet.runtime import Classifier
from service.errors import Code, ServiceError
from service.http.batches import MOST, SOON, Batches
from service.http.lanes import Lane
from service.http.schemas import ClassifyRequest, ClassifyResponse
from service.models.engine import Engine
from service.settings import Settings
from service.watch import metrics
from tests import tiny
from tests.service.conftest import arrays, pngs

PATIENCE = 60.0


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


def just(lane: Lane) -> Callable[[str], Lane]:
    return lambda _: lane


async def behind_one(work: Work, batches: Batches[Any, Any], *others: tuple[str, Any]) -> list[Any]:
    """The answers, or errors, of requests that come while one for the model "a" computes."""
    first = asyncio.create_task(batches.run("a", 0))
    await anyio.to_thread.run_sync(work.running.wait, PATIENCE)
    rest = [asyncio.create_task(batches.run(*other)) for other in others]
    await asyncio.sleep(0)  # each has run until it waits
    work.release.set()
    return [await first, *await asyncio.gather(*rest, return_exceptions=True)]


def test_who_comes_while_one_computes_is_in_the_next_batch_of_its_model():
    work = Work()
    batches = Batches(just(Lane(1, 10, "predictions")), work)
    answers = anyio.run(behind_one, work, batches, ("a", 1), ("b", 2), ("a", 3))
    assert answers == [0, 1, 2, 3]
    assert work.seen[0] == ("a", [0])
    assert sorted(work.seen[1:]) == [("a", [1, 3]), ("b", [2])]


def test_a_batch_has_its_size():
    work = Work()
    batches = Batches(just(Lane(1, 100, "predictions")), work)
    anyio.run(behind_one, work, batches, *(("a", i) for i in range(1, MOST + 3)))
    assert [len(requests) for _, requests in work.seen] == [1, MOST, 2]


def test_an_error_is_whose_it_is():
    bad = InvalidInput("bad")

    def work(_: str, requests: Sequence[Any]) -> list[Any]:
        return [bad if request == "bad" else request for request in requests]

    async def main() -> list[Any]:
        batches = Batches(just(Lane(1, 10, "predictions")), work)
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
        batches = Batches(just(Lane(1, 10, "predictions")), work)
        both = await asyncio.gather(batches.run("a", 1), batches.run("a", 2), return_exceptions=True)
        return [*both, await batches.run("a", 3)]

    first, second, third = anyio.run(main)
    assert isinstance(first, ModelFailed)
    assert isinstance(second, ModelFailed)
    assert third == 3
    assert calls == [2, 1]


def test_only_so_many_wait():
    work = Work()
    batches = Batches(just(Lane(1, 2, "predictions")), work)
    *answers, refused = anyio.run(behind_one, work, batches, ("a", 1), ("a", 2), ("a", 3))
    assert answers == [0, 1, 2]
    assert refused.code is Code.TOO_BUSY


def test_a_model_in_a_lane_of_its_own_keeps_nobody_else_waiting():
    work, done = Work(), []
    lanes = {"a": Lane(1, 1, "predictions"), "b": Lane(1, 1, "others")}

    def mixed(key: str, requests: Sequence[Any]) -> Sequence[Any]:
        return work(key, requests) if key == "a" else requests

    async def both() -> None:
        batches = Batches(lanes.__getitem__, mixed)
        slow = [asyncio.create_task(batches.run("a", 0))]
        await anyio.to_thread.run_sync(work.running.wait, PATIENCE)
        slow.append(asyncio.create_task(batches.run("a", 1)))
        await asyncio.sleep(0)  # it waits
        done.append(await batches.run("b", 7))  # at once, though the other lane is full
        with pytest.raises(ServiceError):
            await batches.run("a", 8)
        work.release.set()
        done.extend(await asyncio.gather(*slow))

    anyio.run(both)
    assert done == [7, 0, 1]


def test_what_is_soon_done_needs_no_thread():
    slow, threads = 0.0, []

    def work(_: str, requests: Sequence[Any]) -> Sequence[Any]:
        threads.append(threading.current_thread() is threading.main_thread())
        time.sleep(slow)
        return requests

    async def ask(batches: Batches[Any, Any]) -> None:
        await batches.run("a", 0)

    async def some() -> None:
        nonlocal slow
        lane = just(Lane(1, 10, "predictions"))
        batches = Batches(lane, work, lambda key: key == "a")
        await ask(batches)  # nobody knows yet
        await ask(batches)
        assert threads == [False, True]
        slow = 2 * SOON
        await ask(batches)  # it has become slow: that is noticed once
        await ask(batches)
        assert threads[2:] == [True, False]
        other = Batches(lane, work)
        for _ in range(3):  # what may wait for something else never keeps the loop
            await ask(other)
        assert threads[4:] == [False, False, False]

    anyio.run(some)


def test_who_has_gone_is_not_computed():
    work = Work()
    batches = Batches(just(Lane(1, 10, "predictions")), work)

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


# The engine's part


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("together")
    tiny.linear(folder / "models/artifacts/linear")
    (folder / "models/evalsets").mkdir()
    return Engine(Settings(models=folder / "models", state=folder, data=folder, threads=1))


def asked(*images: Any, **options: Any) -> ClassifyRequest:
    return ClassifyRequest(model="linear", images=list(images), **options)


def test_each_is_answered_as_if_it_had_come_alone(engine: Engine):
    requests = [asked(*pngs(1)), asked(*arrays(3, seed=1)), asked(*pngs(2, seed=2))]
    for together, request in zip(engine.classify_together("linear", requests), requests, strict=True):
        alone = engine.classify(request)
        assert isinstance(together, ClassifyResponse)
        assert [one.label for one in together.predictions] == [one.label for one in alone.predictions]
        for one, other in zip(together.predictions, alone.predictions, strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)
            assert one.certified_radius == pytest.approx(other.certified_radius, abs=1e-6)


def test_a_bad_request_fails_alone_and_before_the_run(engine: Engine, monkeypatch):
    runs: list[int] = []
    predict = Classifier.predict
    monkeypatch.setattr(Classifier, "predict", lambda self, x: runs.append(len(x)) or predict(self, x))
    good, bad, other = engine.classify_together("linear", [asked(*pngs(1)), asked("AAAA"), asked(*pngs(2))])
    assert isinstance(good, ClassifyResponse)
    assert isinstance(bad, InvalidInput)
    assert bad.field == "images.0"
    assert isinstance(other, ClassifyResponse)
    assert runs == [3]


def test_only_bad_ones_are_no_run(engine: Engine, monkeypatch):
    monkeypatch.setattr(Classifier, "predict", lambda *_: pytest.fail("computed"))
    assert all(isinstance(found, InvalidInput) for found in engine.classify_together("linear", [asked("AAAA")] * 2))


def test_what_poisons_a_run_is_tried_alone(engine: Engine, monkeypatch):
    predict = Classifier.predict

    def poisoned(self: Classifier, x: torch.Tensor) -> torch.Tensor:
        if bool((x == 0).all(dim=(1, 2, 3)).any()):
            raise ModelFailed("poison")
        return predict(self, x)

    monkeypatch.setattr(Classifier, "predict", poisoned)
    black = [[0.0] * 8] * 8
    good, bad = engine.classify_together("linear", [asked(*pngs(1)), asked(black)])
    assert isinstance(good, ClassifyResponse)
    assert isinstance(bad, ModelFailed)


def test_an_unknown_model_is_everybodys_error(engine: Engine):
    found = engine.classify_together("none", [asked(*pngs(1))] * 2)
    assert [error.code for error in found if isinstance(error, ServiceError)] == [Code.UNKNOWN_MODEL] * 2


def test_every_image_is_counted_once(engine: Engine):
    counter = metrics.IMAGES.labels("linear", "/classify")
    before = counter._value.get()
    engine.classify_together("linear", [asked(*pngs(2)), asked("AAAA"), asked(*pngs(1))])
    engine.classify(asked(*pngs(4)))
    assert counter._value.get() - before == 7
