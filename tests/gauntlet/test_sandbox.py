"""A model in a child answers as it would here, and what happens to the child happens to nobody else."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from gauntlet import runtime
from gauntlet.adopt.declared import Declared
from gauntlet.errors import InvalidInput, ModelFailed
from gauntlet.report.measure import local_slopes
from gauntlet.sandbox import wire
from gauntlet.sandbox.guest import Guest, adopt, open_guest
from gauntlet.sandbox.nursery import Nursery
from tests import hostile, zoo


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(scope="module")
def guest(nursery: Nursery) -> Iterator[Guest]:
    graph, manifest = adopt(nursery, zoo.convolutional(residual=True), Declared(name="guest"))
    opened = open_guest(nursery, graph, manifest, new=True)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def test_its_twin_is_the_served_model_with_gradients(guest: Guest, images: torch.Tensor):
    x = images.clone().requires_grad_()
    logits = guest.twin(x)
    assert torch.allclose(logits.detach(), guest.predict(images), atol=1e-5)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    way /= way.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    double = runtime.doubled(guest.twin)
    ahead, behind = (double(images.double() + step * way)[:, 0] for step in (1e-6, -1e-6))
    expected = (gradient * way).flatten(1).sum(dim=1)
    assert torch.allclose((ahead - behind).float() / 2e-6, expected, atol=1e-3)
    assert guest.twin(images).dtype == torch.float32
    assert not guest.twin(images).requires_grad


def test_an_older_pass_can_still_be_differentiated(guest: Guest, images: torch.Tensor):
    x = images.clone().requires_grad_()
    first = guest.twin(x)
    (expected,) = torch.autograd.grad(first.sum(), x, retain_graph=True)
    guest.twin((images + 0.1).requires_grad_())
    (again,) = torch.autograd.grad(first.sum(), x)
    assert torch.allclose(expected, again, atol=1e-6)


def test_its_slopes_stay_below_what_is_proved(guest: Guest, images: torch.Tensor):
    assert guest.certificate.lipschitz is not None
    assert 0 < max(local_slopes(guest, images, 0)) <= guest.certificate.lipschitz


def test_too_slow_a_file_is_stopped(nursery: Nursery, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gauntlet.sandbox.guest.READING", 1.0)
    started = time.monotonic()
    with pytest.raises(ModelFailed, match="longer than 1 s"):
        adopt(nursery, list(hostile.slow())[-1], Declared(name="slow"))
    assert time.monotonic() - started < 8


def test_more_memory_than_allowed_is_not_had(nursery: Nursery):
    (*_, greedy) = hostile.expanding()
    with pytest.raises((ModelFailed, InvalidInput)):
        adopt(nursery, greedy, Declared(name="greedy"))


def test_a_dead_child_is_told_and_the_next_one_lives(nursery: Nursery):
    child = nursery.child("files")
    assert nursery.pid is not None
    mine = max(psutil.Process(nursery.pid).children(), key=lambda process: process.create_time())
    mine.kill()
    for _ in range(2):
        with pytest.raises(ModelFailed, match="died"):
            child.ask({"ask": "adopt"}, seconds=20)
    assert not child.alive
    graph, _ = adopt(nursery, zoo.dense((64,)), Declared(name="next"))
    assert graph


def test_a_child_leaves_no_files(nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    graph, manifest = adopt(nursery, zoo.dense((64,)), Declared(name="tidy"))
    opened = open_guest(nursery, graph, manifest, new=True)
    (folder,) = tmp_path.iterdir()
    (folder / "left").write_text("by a child that was killed")
    opened.close()
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_the_environment_gets_in_and_a_dead_nursery_is_replaced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GAUNTLET_DATABASE_URL", "postgresql://user:secret@host/db")
    nursery = Nursery()
    nursery.child("files").close()
    assert nursery.pid is not None
    process = psutil.Process(nursery.pid)
    assert "GAUNTLET_DATABASE_URL" not in process.environ()
    process.kill()
    process.wait()
    child = nursery.child("files")
    assert child.alive
    nursery.close()
    with pytest.raises(ModelFailed, match="died"):
        child.ask({"ask": "adopt"}, seconds=20)


def test_what_is_no_message_is_found_out():
    typed = b'{"message": {}, "arrays": [["object", [1]]]}'
    sized = b'{"message": {}, "arrays": [["float32", [-1]]]}'
    vast = b'{"message": {}, "arrays": [["float32", [1000000, 1000000]]]}'
    endless = b'{"message": {}, "arrays": [["float32", [Infinity]]]}'
    heads = (b"{}", b"null", b"[", typed, sized, vast, endless)
    for said in (b"\xff\xff\xff\xff", b"\x00", *(wire.HEAD.pack(len(head)) + head for head in heads)):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(said)
            theirs.shutdown(socket.SHUT_WR)
            with pytest.raises((wire.Garbled, EOFError)):
                wire.receive(ours, time.monotonic() + 10)


def test_messages_come_through_as_they_went():
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 4)), np.array(3, np.int64)]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.send(theirs, {"ask": "é"}, *arrays)
        message, got = wire.receive(ours, time.monotonic() + 10)
    assert message == {"ask": "é"}
    assert all(one.dtype == other.dtype and np.array_equal(one, other) for one, other in zip(arrays, got, strict=True))
