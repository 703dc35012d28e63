"""Whose turn it is, and who loses a place: the queue alone, without threads or clocks."""

import random
from collections import Counter

from service.scheduling.fair_queue import FairQueue


def filled(**counts: int) -> FairQueue[str]:
    """A queue in which each requester has so many items, all of the first before those of the second."""
    queue = FairQueue[str]()
    for name, count in counts.items():
        for i in range(count):
            queue.add(name, f"{name}{i}")
    return queue


def served(queue: FairQueue[str], cost: float = 1.0) -> list[str]:
    """Everything that waits, in the order in which it is served."""
    order = []
    while found := queue.take():
        order.append(found[1])
        queue.charge(found[0], cost)
        queue.done(found[0])
    return order


def test_requesters_are_served_in_turn_and_each_in_order():
    assert served(filled(greedy=4, b=2, c=1)) == ["greedy0", "b0", "c0", "greedy1", "b1", "greedy2", "greedy3"]


def test_who_costs_more_is_served_less_often():
    queue, seconds = filled(dear=20, cheap=20), Counter[str]()
    for _ in range(12):
        found = queue.take()
        assert found is not None
        price = 5 if found[0] == "dear" else 1
        seconds[found[0]] += price
        queue.charge(found[0], price)
        queue.done(found[0])
    assert seconds == {"dear": 10, "cheap": 10}


def test_who_comes_late_is_next_and_is_owed_nothing_for_the_time_before():
    queue = filled(greedy=10)
    for _ in range(5):
        queue.take()
        queue.charge("greedy", 1)
        queue.done("greedy")
    for i in range(5):
        queue.add("late", f"late{i}")
    assert served(queue)[:4] == ["greedy5", "late0", "greedy6", "late1"]


def test_going_away_and_coming_back_wins_nothing():
    queue = filled(steady=100)
    count = Counter[str]()
    for _ in range(60):
        if not queue.waiting("flitting"):
            queue.add("flitting", "x")  # it never waits with more than one
        found = queue.take()
        assert found is not None
        count[found[0]] += 1
        queue.charge(found[0], 1)
        queue.done(found[0])
    assert count == {"steady": 30, "flitting": 30}


def test_the_newest_of_whoever_has_most_loses_its_place():
    queue = filled(a=2, greedy=4, b=1)
    assert queue.evict("b") == ("greedy", "greedy3")
    assert queue.evict("b") == ("greedy", "greedy2")
    queue.add("b", "b1")
    assert queue.evict("b") == ("b", "b1")  # of equals, the newcomer's


def test_what_has_begun_is_not_evicted_and_goes_on_before_what_has_not():
    queue = filled(a=2)
    assert queue.take() == ("a", "a0")
    queue.pause("a", "a0")
    assert queue.evict("b") == ("a", "a1")
    assert queue.evict("b") is None
    queue.add("a", "a2")
    assert served(queue) == ["a0", "a2"]


def test_owed_is_who_waits_and_has_received_less():
    queue = filled(a=1)
    queue.take()
    queue.charge("a", 5)
    assert not queue.owed("a", 1)
    queue.add("b", "b0")  # counts as having received what a has
    assert not queue.owed("a", 1)
    queue.charge("a", 1)
    assert queue.owed("a", 1)
    queue.remove("b", "b0")
    assert not queue.owed("a", 1)


def test_nothing_is_kept_of_who_is_away():
    queue = filled(a=2, b=1)
    served(queue)
    assert queue.take() is None
    assert not queue._lines


def test_nobody_who_waits_falls_behind_by_more_than_one_item():
    """For any requesters that all wait all the time, with any costs (Goyal et al., theorem 1)."""
    generator = random.Random(0)
    names = "abcde"
    queue, most = filled(**dict.fromkeys(names, 400)), 7
    received = dict.fromkeys(names, 0)
    for _ in range(1000):
        found = queue.take()
        assert found is not None
        cost = generator.randint(1, most)
        received[found[0]] += cost
        queue.charge(found[0], cost)
        queue.done(found[0])
        assert max(received.values()) - min(received.values()) <= most
