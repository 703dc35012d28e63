"""A model in a child answers as it would here, and what happens to the child happens to nobody else."""

import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from gauntlet.errors import InvalidInput, ModelFailed
from gauntlet.evaluation.local_slopes import local_slopes
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.runtime import twin
from gauntlet.sandbox import protocol
from gauntlet.sandbox.fork_server import ForkServer, exit_reason
from gauntlet.sandbox.sandboxed_classifier import SandboxedClassifier, _request
from tests import hostile, sandboxed, zoo


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    made = ForkServer()
    yield made
    made.close()


@pytest.fixture(scope="module")
def guest(fork_server: ForkServer) -> Iterator[SandboxedClassifier]:
    opened = sandboxed.opened(fork_server, zoo.convolutional(residual=True), ModelSettings(name="guest"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def test_a_file_of_an_upload_says_how_pixels_are_prepared(fork_server: ForkServer) -> None:
    config = json.dumps({"image_mean": [0.5], "image_std": [0.25]}).encode()
    graph, manifest = sandboxed.adopt(
        fork_server, zoo.dense((64,)), ModelSettings(name="guest"), {"preprocessor_config.json": config}
    )
    assert manifest.adoption is not None
    assert (manifest.adoption.scale, manifest.adoption.offset) == ((4,), (-2,))
    graph.close()


def test_its_twin_is_the_served_model_with_gradients(guest: SandboxedClassifier, images: torch.Tensor):
    x = images.clone().requires_grad_()
    logits = guest.twin(x)
    assert torch.allclose(logits.detach(), guest.predict(images), atol=1e-5)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    way /= way.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    double = twin.doubled(guest.twin)
    ahead, behind = (double(images.double() + step * way)[:, 0] for step in (1e-6, -1e-6))
    expected = (gradient * way).flatten(1).sum(dim=1)
    assert torch.allclose((ahead - behind).float() / 2e-6, expected, atol=1e-3)
    assert guest.twin(images).dtype == torch.float32
    assert not guest.twin(images).requires_grad


def test_an_older_pass_can_still_be_differentiated(guest: SandboxedClassifier, images: torch.Tensor):
    x = images.clone().requires_grad_()
    first = guest.twin(x)
    (expected,) = torch.autograd.grad(first.sum(), x, retain_graph=True)
    guest.twin((images + 0.1).requires_grad_())
    (again,) = torch.autograd.grad(first.sum(), x)
    assert torch.allclose(expected, again, atol=1e-6)


def test_its_slopes_stay_below_what_is_proved(guest: SandboxedClassifier, images: torch.Tensor):
    assert guest.certificate.lipschitz is not None
    assert 0 < max(local_slopes(guest, images, 0)) <= guest.certificate.lipschitz


def test_too_slow_a_file_is_stopped(fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gauntlet.sandbox.sandboxed_classifier.READING", 1.0)
    fork_server.child("files").close()  # by now the fork server has begun
    server = psutil.Process(fork_server.pid)
    before = server.children()
    with pytest.raises(ModelFailed, match=r"longer than [\d.]+ s and was stopped"):
        sandboxed.adopt(fork_server, list(hostile.slow())[-1], ModelSettings(name="slow"))
    _, alive = psutil.wait_procs([child for child in server.children() if child not in before], 60)
    assert not alive


def test_more_memory_than_allowed_is_not_had(fork_server: ForkServer):
    (*_, greedy) = hostile.expanding()
    with pytest.raises((ModelFailed, InvalidInput)):
        sandboxed.adopt(fork_server, greedy, ModelSettings(name="greedy"))


def test_a_dead_child_is_told_and_the_next_one_lives(fork_server: ForkServer):
    child = fork_server.child("files")
    assert fork_server.pid is not None
    mine = max(psutil.Process(fork_server.pid).children(), key=lambda process: process.create_time())
    mine.kill()
    for _ in range(2):
        with pytest.raises(ModelFailed, match="died"):
            child.ask({"ask": "adopt"}, seconds=20)
    assert not child.alive
    graph, _ = sandboxed.adopt(fork_server, zoo.dense((64,)), ModelSettings(name="next"))
    assert os.fstat(graph.fileno()).st_size > 0
    graph.close()


def test_a_child_that_died_while_nobody_asked_is_known_to_be_dead(fork_server: ForkServer):
    child = fork_server.child("files")
    assert child.alive
    mine = max(psutil.Process(fork_server.pid).children(), key=lambda process: process.create_time())
    mine.kill()
    select.select([child._handle], [], [], 20)
    assert not child.alive
    with pytest.raises(ModelFailed, match="killed from outside"):
        child.ask({"ask": "adopt"}, seconds=20)


def test_an_exception_is_an_answer_with_its_true_reason_and_one_line_of_the_log(fork_server: ForkServer, caplog):
    child = fork_server.child("files")
    for _ in range(2):  # it lives on
        caplog.clear()
        with pytest.raises(ModelFailed, match=r"^KeyError: 'forged\\nline'$"):
            _request(child, {"ask": "forged\nline"}, seconds=20)
        (record,) = caplog.records
        assert "KeyError" in record.getMessage()
        assert "serve (child_loop.py" in record.getMessage()
        assert "\n" not in record.getMessage()
    child.close()


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (signal.SIGXCPU, "more processor time than it may"),
        (signal.SIGSEGV, r"crashed \(SIGSEGV\)"),
        (signal.SIGKILL, "killed from outside"),
    ],
)
def test_a_dead_child_is_told_with_what_killed_it(fork_server: ForkServer, number: int, cause: str):
    child = fork_server.child("files")
    assert fork_server.pid is not None
    max(psutil.Process(fork_server.pid).children(), key=lambda process: process.pid).send_signal(number)
    with pytest.raises(ModelFailed, match=f"^it died: it .*{cause}"):
        child.ask({"ask": "adopt"}, seconds=20)


def test_a_crash_for_want_of_memory_is_told_as_such():
    printed = "terminate called after throwing an instance of 'std::bad_alloc'"
    assert exit_reason(signal.SIGABRT, printed) == "it needs more memory than it may have"
    assert exit_reason(signal.SIGABRT, "assertion failed") == "it crashed (SIGABRT)"
    assert exit_reason(3 << 8, "") == "its process ended with status 3"


def test_what_a_child_prints_reaches_the_log_bounded_and_on_one_line(fork_server: ForkServer, caplog):
    forged = "x" * 10_000 + '\n{"logger": "gauntlet.audit"}\x1b[31m\u202e'
    child = fork_server.child("files")
    os.pwrite(child._printed.fileno(), forged.encode(), 0)
    assert fork_server.pid is not None
    max(psutil.Process(fork_server.pid).children(), key=lambda process: process.pid).kill()
    with pytest.raises(ModelFailed):
        child.ask({"ask": "adopt"}, seconds=20)
    (record,) = caplog.records
    message = record.getMessage()
    assert message.isprintable()
    assert r'\n{"logger": "gauntlet.audit"}\x1b[31m\u202e' in message
    assert len(message) < 3000


def test_no_zombie_is_left_of_a_child(fork_server: ForkServer):
    fork_server.child("files").close()
    assert fork_server.pid is not None
    states = [process.status() for process in psutil.Process(fork_server.pid).children()]
    assert psutil.STATUS_ZOMBIE not in states


def test_a_child_leaves_no_files(fork_server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened = sandboxed.opened(fork_server, zoo.dense((64,)), ModelSettings(name="tidy"))
    (folder,) = tmp_path.iterdir()
    (folder / "left").write_text("by a child that was killed")
    opened.close()
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_the_environment_gets_in_and_a_dead_fork_server_is_replaced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GAUNTLET_DATABASE_URL", "postgresql://user:secret@host/db")
    fork_server = ForkServer()
    fork_server.child("files").close()
    assert fork_server.pid is not None
    process = psutil.Process(fork_server.pid)
    assert "GAUNTLET_DATABASE_URL" not in process.environ()
    process.kill()
    process.wait()
    child = fork_server.child("files")
    assert child.alive
    fork_server.close()
    with pytest.raises(ModelFailed, match="died"):
        child.ask({"ask": "adopt"}, seconds=20)


def test_what_is_no_message_is_found_out():
    typed = b'{"message": {}, "arrays": [["object", [1]]]}'
    sized = b'{"message": {}, "arrays": [["float32", [-1]]]}'
    vast = b'{"message": {}, "arrays": [["float32", [1000000, 1000000]]]}'
    endless = b'{"message": {}, "arrays": [["float32", [Infinity]]]}'
    heads = (b"{}", b"null", b"[", typed, sized, vast, endless)
    for said in (b"\xff\xff\xff\xff", b"\x00", *(protocol.HEAD.pack(len(head)) + head for head in heads)):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(said)
            theirs.shutdown(socket.SHUT_WR)
            with pytest.raises((protocol.Garbled, EOFError)):
                protocol.receive(ours, time.monotonic() + 600)


def test_an_answer_takes_no_more_memory_than_is_expected():
    ours, theirs = socket.socketpair()
    for most, passes in ((400, True), (399, False)):
        protocol.send(theirs, {}, np.zeros(100, np.float32))
        if passes:
            assert protocol.receive(ours, most=most)[1][0].nbytes == most
        else:
            with pytest.raises(protocol.Garbled, match="too large"):
                protocol.receive(ours, most=most)
    ours.close()
    theirs.close()


def test_messages_come_through_as_they_went():
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 4)), np.array(3, np.int64)]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        protocol.send(theirs, {"ask": "é"}, *arrays)
        message, got = protocol.receive(ours, time.monotonic() + 600)
    assert message == {"ask": "é"}
    assert all(one.dtype == other.dtype and np.array_equal(one, other) for one, other in zip(arrays, got, strict=True))
