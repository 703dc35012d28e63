import dataclasses
from types import SimpleNamespace

import torch

from bench.attacks import distance, goals, ours, race
from bench.attacks.options import Options
from bench.attacks.task import Contender
from gauntlet.attacks import ATTACKS


def steps_of(task, passes):
    """A contender whose steps take so many forward and backward passes each."""

    def attack(given):
        for _ in range(given.steps * passes):
            given.by_batch(lambda x, y: torch.autograd.grad(given.twin(x.requires_grad_()).sum(), x)[0])
        return given.x

    return Contender("greedy", attack)


def options(tmp_path, **told):
    given = {"model": "x", "adversarial": (), "out": tmp_path, "n": None, "slow_n": 4, "steps": None, "rounds": 2}
    given |= {"seed": 0, "seeds": 3, "peer_seeds": None, "skip": 0, "batches": (4, 8), "shares": (0.5,), "eps": None}
    return Options.model_validate(given | told)


def test_every_pass_of_every_image_is_counted(task):
    found = race.run(steps_of(task, 3), dataclasses.replace(task, steps=7))
    assert (found.forwards, found.backwards) == (21, 21)


def test_a_forward_pass_without_gradient_is_counted_too(task):
    def attack(given):
        with torch.no_grad():
            given.twin(given.x[:6])
        return given.x

    found = race.run(Contender("forward", attack), task)
    assert (found.forwards, found.backwards) == (0.5, 0)


def test_each_backward_pass_through_one_graph_is_counted(task):
    def attack(given):
        x = given.x.clone().requires_grad_()
        for column in given.twin(x).unbind(1):
            torch.autograd.grad(column.sum(), x, retain_graph=True)
        return given.x

    found = race.run(Contender("deepfool", attack), task)
    assert (found.forwards, found.backwards) == (1, 3)


def test_steps_are_lowered_until_they_fit_the_cap(task):
    greedy = steps_of(task, 5)
    given = race.fitted(greedy, task)
    assert 0.9 * race.cap(task.steps) < race.run(greedy, given).passes <= race.cap(task.steps)
    assert race.fitted(dataclasses.replace(greedy, capped=False), task).steps == task.steps


def test_one_over_the_cap_does_not_compete(task, tmp_path):
    greedy = dataclasses.replace(steps_of(task, 5), capped=False)
    (found,) = distance.measure([greedy], dataclasses.replace(task, steps=2), options(tmp_path))
    assert not found.within_cap
    assert goals.peers([found]) == []


def test_a_peer_gets_its_fastest_batch_and_all_of_the_images(task, monkeypatch):
    met = []
    monkeypatch.setattr(race, "time", SimpleNamespace(perf_counter=lambda: len(met)))  # a batch takes a second

    def attack(given):
        def one(x, y):
            met.append(len(x))
            return x

        return given.by_batch(one)

    contender = Contender("slow in small batches", attack)
    given = race.at_best_batch(contender, task, (2, 500))
    assert given.batch == 12
    assert set(met) == {2, 12}
    assert torch.equal(race.run(contender, dataclasses.replace(task, batch=8)).images, task.x)


def test_ours_has_its_short_run_too(task):
    met = []

    def attack(given):
        met.append(given.steps)
        return given.x

    given = race.at_best_batch(Contender("gauntlet", attack, ours=True, tried=7), task, (2, 500))
    assert (given.batch, given.steps, met) == (12, task.steps, [7])


def test_contenders_take_turns_on_the_same_images(task):
    met = []

    def contender(name):
        def attack(given):
            met.append((name, given.seed, given.x, given.y, float(torch.rand(()))))
            return given.x

        return Contender(name, attack)

    race.alternated([(contender("a"), task), (contender("b"), task)], [0, 1])
    assert [turn[:2] for turn in met] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert all(turn[2] is task.x and turn[3] is task.y for turn in met)
    assert met[0][4] == met[1][4] != met[2][4]


def test_our_searches_and_targets_share_the_cap(task):
    for name in ("cw", "apgd-t", "ddn"):
        entry = ATTACKS[name]
        params = entry.params.model_validate(ours.affordable(name, 500))
        assert 490 <= entry.gradient_steps(params) <= 500


def test_the_parameters_of_the_network_are_frozen(task):
    assert not any(parameter.requires_grad for parameter in task.twin.parameters())
    assert not task.twin.training


def test_a_minimal_attack_of_ours_is_measured_with_its_curve(task, tmp_path):
    given = dataclasses.replace(task, steps=100)
    (found,) = distance.measure([ours.single("ddn")], given, options(tmp_path))
    assert found.within_cap
    assert found.failures == 0
    assert len(found.seconds) == 2
    assert [point.steps for point in found.curve] == [48, 97]  # with the passes of a second search, 50 and 100
    assert found.curve[-1].mean == found.mean <= 1.01 * found.curve[0].mean
