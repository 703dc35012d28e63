"""Slots, places and turns: a clock of the test, and threads only where something is interrupted."""

import threading
from collections.abc import Callable

import pytest

from service.scheduling.slots import QUANTUM, Full, Slots, Turn
from tests.service.conftest import PATIENCE


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def never() -> None:
    """Nobody is cancelled."""


def refused(turn: Turn) -> int:
    """How many of its requester waited when it lost its place."""
    with pytest.raises(Full) as full:
        turn.granted.result(0)
    return full.value.own


def test_a_greedy_requester_fills_the_places_until_somebody_else_needs_one():
    clock = Clock()
    slots = Slots(1, 3, clock)
    holds, *waiting = [slots.enter("greedy") for _ in range(4)]
    assert refused(slots.enter("greedy")) == 4
    other = slots.enter("other")
    assert refused(waiting[2]) == 3
    assert not other.granted.done()
    third = slots.enter("third")
    assert refused(waiting[1]) == 2
    assert refused(slots.enter("fourth")) == 1  # each has one
    clock.now = 1.0
    slots.leave(holds)
    assert [turn.granted.done() for turn in (waiting[0], other, third)] == [False, True, False]


def test_without_places_only_who_finds_a_free_slot_computes():
    slots = Slots(2, 0)
    first, second = slots.enter("a"), slots.enter("a")
    assert first.granted.done()
    assert second.granted.done()
    assert refused(slots.enter("b")) == 1
    slots.leave(first)
    assert slots.enter("b").granted.result(0) is None


def test_turns_go_by_the_seconds_that_each_has_computed():
    clock = Clock()
    slots = Slots(1, clock=clock)
    long = slots.enter("long")
    waiting = [slots.enter("long"), *(slots.enter("short") for _ in range(3))]
    clock.now = 3.0
    order = []
    slots.leave(long)
    for _ in waiting:
        (turn,) = (turn for turn in waiting if turn.since is not None)
        order.append(turn.requester)
        clock.now += 1.0
        slots.leave(turn)
    assert order == ["short", "short", "short", "long"]


def test_who_leaves_while_waiting_is_passed_over():
    slots = Slots(1)
    holds, gone, next_ = slots.enter("a"), slots.enter("b"), slots.enter("c")
    assert gone.granted.cancel()
    slots.leave(holds)
    slots.leave(gone)
    assert next_.granted.done()


def interrupted(slots: Slots, turn: Turn, check: Callable[[], None] = never) -> threading.Thread:
    """A thread in which it has begun to give way."""
    thread = threading.Thread(target=slots.give_way, args=(turn, check), daemon=True)
    thread.start()
    return thread


def test_what_takes_long_is_interrupted_for_others_and_goes_on():
    clock = Clock()
    slots = Slots(1, 8, clock)
    long = slots.enter("greedy")
    queued = slots.enter("greedy")
    clock.now = 50.0
    slots.give_way(long, never)  # nobody else waits
    other = slots.enter("other")
    slots.give_way(long, never)  # is ahead by nothing so far
    assert not other.granted.done()
    clock.now += QUANTUM
    thread = interrupted(slots, long)
    other.granted.result(PATIENCE)
    slots.leave(other)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert long.since is not None  # before what its requester has not begun
    assert not queued.granted.done()


def test_what_is_interrupted_hears_that_it_is_cancelled():
    clock = Clock()
    slots = Slots(1, 8, clock)
    long, other = slots.enter("greedy"), slots.enter("other")
    clock.now += QUANTUM

    def cancelled() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        slots.give_way(long, cancelled)
    slots.leave(long)
    slots.leave(other)
    assert slots.enter("third").granted.done()
