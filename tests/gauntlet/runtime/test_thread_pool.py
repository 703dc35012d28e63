"""As many pieces at once as there are cores, whoever asks, and the answers in their order."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from gauntlet.runtime.thread_pool import ThreadPool


@pytest.mark.parametrize(
    ("size", "n", "sizes"),
    [
        (1, 20, [20]),
        (3, 20, [8, 8, 4]),  # no part of fewer than eight but the last
        (2, 64, [32, 32]),
        (2, 250, [100, 100, 50]),  # none of more than a hundred
        (4, 5, [5]),
        (4, 0, [0]),
    ],
)
def test_things_are_spread_evenly(size: int, n: int, sizes: list[int]) -> None:
    things = list(range(n))
    parts = [things[part] for part in ThreadPool(size).parts(n, 8, 100)]
    assert [len(part) for part in parts] == sizes
    assert [thing for part in parts for thing in part] == things


@pytest.mark.parametrize("size", [1, 3])
def test_no_more_are_at_work_than_the_crew_has(size: int) -> None:
    crew, lock, full, now, most = ThreadPool(1), threading.Lock(), threading.Event(), 0, 0
    crew.resize(size)

    def work(part: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now == size:
                full.set()
        assert full.wait(60)  # until as many are at work as may be
        with lock:
            now -= 1
        return -part

    with ThreadPoolExecutor(5) as others:
        answers = list(others.map(lambda first: crew.map(work, range(first, first + 2 + first % 3)), range(5)))
    assert answers == [[-first - i for i in range(2 + first % 3)] for first in range(5)]
    assert most == size


def test_one_part_waits_for_nobody() -> None:
    crew, busy, done = ThreadPool(1), threading.Event(), threading.Event()

    def work(part: int) -> bool:
        busy.set()
        return done.wait(60) if part else True

    with ThreadPoolExecutor(1) as others:
        many = others.submit(crew.map, work, [1, 1])
        assert busy.wait(60)
        assert crew.map(work, [0]) == [True]
        done.set()
        assert many.result(60) == [True, True]


def test_what_fails_in_a_part_fails_the_whole_and_nothing_else() -> None:
    crew = ThreadPool(2)
    with pytest.raises(ZeroDivisionError):
        crew.map(lambda part: 1 // part, [1, 0, 1])
    assert crew.map(lambda part: 1 // part, [1, 1]) == [1, 1]
