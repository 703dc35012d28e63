"""Branch and bound against all patterns of a tiny network's ReLUs."""

import itertools
import math
import time
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from gauntlet.bounds import onnx_reader
from gauntlet.bounds.branching import branch_and_bound
from gauntlet.bounds.crown import linearise
from gauntlet.bounds.output_property import Goal
from gauntlet.bounds.prover import exclude
from gauntlet.bounds.region import Region
from gauntlet.errors import Cancelled
from tests.gauntlet.bounds import graphs

MANY = 100
STEPS = 300


def exact_minimum(widths, seed, row):
    """min of row . y over [0, 1]^n: one linear program for each pattern of the ReLUs."""
    made = graphs.dense(widths, seed)
    stored = {t.name: np.asarray(graphs.numpy_helper.to_array(t), np.float64) for t in made.graph.initializer}
    layers = len(widths) - 1
    best = np.inf
    for pattern in itertools.product([0.0, 1.0], repeat=sum(widths[1:-1])):
        matrix, offset, unequal, limits, place = np.eye(widths[0]), np.zeros(widths[0]), [], [], 0
        for number in range(layers):
            matrix, offset = stored[f"w{number}"] @ matrix, stored[f"w{number}"] @ offset + stored[f"b{number}"]
            if number < layers - 1:
                on = np.array(pattern[place : place + len(offset)])
                place += len(offset)
                sign = 1 - 2 * on  # on: z >= 0
                unequal.append(sign[:, None] * matrix)
                limits.append(-sign * offset)
                matrix, offset = on[:, None] * matrix, on * offset
        found = linprog(row @ matrix, np.concatenate(unequal), np.concatenate(limits), bounds=(0, 1))
        if found.status == 0:
            best = min(best, found.fun + row @ offset)
    return best


def excludes(prove):
    """Whether ``prove`` does within STEPS steps, however long they take."""
    steps = itertools.count(1)

    def check_cancelled():
        if next(steps) > STEPS:
            raise Cancelled("enough")

    try:
        return bool(torch.as_tensor(prove(time.perf_counter() + 600, check_cancelled=check_cancelled).excluded).any())
    except Cancelled:
        return False


def goal(row, bound):
    return Goal(torch.from_numpy(row).view(1, 1, 1, -1), torch.tensor([[bound]], dtype=torch.float64))


def unit_box(n):
    return Region.box(torch.zeros(1, 1, n, dtype=torch.float64), torch.ones(1, 1, n, dtype=torch.float64))


@pytest.mark.parametrize("seed", range(4))
def test_the_minimum_over_all_patterns_is_met_and_never_passed(seed):
    widths, row = [2, 4, 3, 2], np.array([1.0, -1.0])
    least = exact_minimum(widths, seed, row)
    network = onnx_reader.from_model(graphs.dense(widths, seed))

    def proves(bound):
        return excludes(partial(exclude, network, unit_box(2), goal(row, bound)))

    assert proves(least - 1e-2)
    assert not proves(least + 1e-9)


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid"])
def test_branches_decide_what_one_relaxation_leaves_open(activation):
    network = onnx_reader.from_model(graphs.dense([2, 8, 8, 2], 5, activation))
    region = unit_box(2)
    grid = torch.cartesian_prod(*[torch.linspace(0, 1, 200, dtype=torch.float64)] * 2)[:, None]
    row = np.array([1.0, -1.0])
    least = float((network(grid).flatten(1) @ torch.from_numpy(row)).min())
    state = linearise(network, region)
    crown = float(state.lower(torch.from_numpy(row).view(1, 1, -1)))
    between = least - 0.05 * (least - crown)
    done = branch_and_bound(state, goal(row, between), time.perf_counter() + 60)
    assert done.excluded.all()
    assert done.branches > 1
    assert not excludes(partial(branch_and_bound, state, goal(row, least + 1e-6)))


def test_points_of_the_least_bounds_are_shown_until_one_is_taken():
    network = onnx_reader.from_model(graphs.dense([2, 8, 8, 2], 5))
    region, row = unit_box(2), np.array([1.0, -1.0])
    shown = []

    def judge(points):
        shown.append(points)
        return len(shown) == 2

    state = linearise(network, region)
    crown = float(state.lower(torch.from_numpy(row).view(1, 1, -1)))
    done = branch_and_bound(state, goal(row, crown + 100.0), time.perf_counter() + 30, judge)
    assert len(shown) == 2
    assert not done.complete
    assert all(bool(((p >= 0) & (p <= 1)).all()) for p in shown)


def test_a_conjunction_is_excluded_by_either_of_its_rows():
    network = onnx_reader.from_model(graphs.dense([2, 6, 2], 3))
    rows = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]], dtype=torch.float64)
    low = network(torch.zeros(1, 1, 2, dtype=torch.float64)).flatten()
    for bounds in ([-1e3, float(low[1]) + 1e3], [float(low[0]) + 1e3, -1e3]):
        both = Goal(rows, torch.tensor([bounds], dtype=torch.float64))
        assert exclude(network, unit_box(2), both, time.perf_counter() + 10).excluded
    neither = Goal(rows, low[None] + 1e-6)
    assert not excludes(partial(exclude, network, unit_box(2), neither))


@pytest.mark.parametrize("method", ["crown", "alpha-crown", "branch-and-bound"])
def test_a_proof_ends_at_whatever_step_it_is_cancelled(method):
    network = onnx_reader.from_model(graphs.dense([2, 8, 8, 2], 5))
    unprovable = goal(np.array([1.0, -1.0]), 1e3)
    calls = []

    def check_cancelled(last=math.inf):
        calls.append(time.perf_counter())
        if len(calls) >= last:
            raise Cancelled("enough")

    def prove(last=math.inf):
        calls.clear()
        deadline = time.perf_counter() + 5
        exclude(
            network,
            unit_box(2),
            unprovable,
            deadline,
            (method,),
            lambda _: len(calls) > MANY,
            lambda: check_cancelled(last),
        )

    prove()
    made = len(calls)
    assert made > {"crown": 1, "alpha-crown": 60, "branch-and-bound": MANY}[method]
    for last in (1, made // 2, made):
        with pytest.raises(Cancelled):
            prove(last)
        assert len(calls) == last
