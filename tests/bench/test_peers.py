"""Every peer, on a linear model. Skipped where they are not installed: `make bench-attacks` does and runs this."""

import dataclasses
from importlib import import_module
from importlib.util import find_spec

import pytest

from bench.attacks import judge, race

PEERS = ("foolbox", "torchattacks", "adv_lib", "art", "pyautoattack")
pytestmark = [
    pytest.mark.skipif(any(find_spec(name) is None for name in PEERS), reason="the peers are not installed"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def contenders():
    peers = import_module("bench.attacks.peers")  # with the warnings of its libraries ignored
    return {contender.name: contender for contender in (*peers.CW, *peers.SLOW_CW, *peers.MINIMAL, *peers.AUTO)}


NAMES = (
    "foolbox cw",
    "foolbox cw, rate and c 0.1",
    "foolbox ddn",
    "foolbox fmn",
    "foolbox fmn, first step 0.1",
    "foolbox deepfool",
    "adv-lib cw",
    "adv-lib cw, rate and c 0.1",
    "adv-lib ddn",
    "adv-lib fmn",
    "adv-lib fmn, first step 0.1",
    "adv-lib alma",
    "adv-lib alma, first step 0.1",
    "adv-lib deepfool",
    "adv-lib superdeepfool",
    "torchattacks cw",
    "torchattacks cw, c 10",
    "art cw",
    "art cw, all steps",
)
AUTO = ("torchattacks autoattack", "pyautoattack")


def test_every_contender_is_tested(contenders):
    assert set(contenders) == {*NAMES, *AUTO}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "art cw, all steps"])
def test_it_stays_within_the_cap(contenders, task, name):
    contender = contenders[name]
    found = race.run(contender, race.fitted(contender, task))
    assert 0 < found.passes <= race.cap(task.steps)
    assert found.backwards > 0
    assert found.images.shape == task.x.shape


@pytest.mark.parametrize("name", AUTO)
def test_an_autoattack_stays_in_its_ball(contenders, task, name):
    given = dataclasses.replace(task, steps=3, eps=0.05)
    found = race.run(contenders[name], given)
    assert (found.images - task.x).abs().max() <= 0.05 + 1e-6
    assert judge.broken(task.model, task.x, task.y, found.images, 0.05).any()
