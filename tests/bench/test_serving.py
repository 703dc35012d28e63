"""The benchmark of serving, without its peers' servers: the load generator, what counts as right, and the sums."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from bench.page import publish
from bench.serving import contest, load, mixed, servers, table
from bench.serving.asks import classified, inferred
from bench.serving.contest import BARE, BINARY, MANY, ONE, Run
from bench.serving.load import Answer, Ask, http
from bench.serving.peers.model import Model
from gauntlet.artifacts import artefact_folders, image_conversion
from gauntlet.runtime.classifier import open_model
from service.compute.prediction_model import TorchPredictionModel
from service.predictions.classification import classify
from service.predictions.classify_requests import encode
from tests import tiny


class Echo(BaseHTTPRequestHandler):
    """Sends the body back in two pieces; 404 for /none, and hangs up at /gone."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/gone":
            self.close_connection = True
            return
        self.send_response(404 if self.path == "/none" else 200)
        self.send_header("X-Kind", "Echo")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:3])
        self.wfile.flush()
        self.wfile.write(body[3:])

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def echo(body: bytes, path: str = "/", right: bytes | None = None) -> Ask:
    return Ask(http("POST", path, body), lambda answer: answer.body == (body if right is None else right), images=2)


def test_every_request_is_asked_answered_and_looked_at(port: int):
    asks = [echo(b"one"), echo(b"a longer one"), echo(b"lost", "/none"), echo(b"x" * 300_000)]
    tally = load.run(port, asks, 3, count=40)
    assert tally.requests == len(tally.latencies) == 40
    assert tally.images == 80
    assert tally.statuses == {200: 30, 404: 10}
    assert not tally.wrong
    assert 0 < tally.quantile(0.5) <= tally.quantile(0.99) <= tally.quantile(1) <= tally.seconds


def test_a_wrong_answer_is_kept(port: int):
    tally = load.run(port, [echo(b"one"), echo(b"two", right=b"2")], 1, count=4)
    assert [answer.body for answer in tally.wrong] == [b"two", b"two"]
    assert tally.wrong[0].headers["x-kind"] == "Echo"
    assert mixed.faults(tally)[0].startswith("2 wrong answers")


def test_only_some_answers_are_looked_at_where_that_is_asked_for(port: int):
    tally = load.run(port, [echo(b"one", right=b"1")], 1, count=10, check=4)
    assert len(tally.wrong) == 2


def test_a_server_that_hangs_up_ends_the_run(port: int):
    with pytest.raises(ConnectionError):
        load.run(port, [echo(b"one"), echo(b"", "/gone")], 1, count=4)


def test_a_check_that_cannot_read_an_answer_ends_the_run(port: int):
    with pytest.raises(json.JSONDecodeError):
        load.run(port, [Ask(http("POST", "/", b"no json"), lambda answer: json.loads(answer.body))], 1, count=4)


def test_server_errors_are_faults():
    tally = load.Tally(statuses={200: 5, 503: 2})
    assert mixed.faults(tally) == ["2 x 5xx"]
    assert mixed.faults(load.Tally(statuses={200: 5, 422: 2})) == []


# What is right


@pytest.fixture(params=[tiny.linear, tiny.convolutional])
def peer(request, tmp_path, monkeypatch):
    """A classifier, and a peer's of the same file."""
    folder = request.param(tmp_path / "model")
    model = open_model(artefact_folders.load(folder), "cpu")
    monkeypatch.setattr(servers, "MODELS", tmp_path)
    assert servers.peers(model, tmp_path)
    for name, value in {"MODEL": folder, "PROOF": tmp_path / "proof.json", "THREADS": 1}.items():
        monkeypatch.setenv(f"PEER_{name}", str(value))
    return model, Model()


def test_a_peer_returns_our_fields_with_our_values(peer):
    model, other = peer
    x = torch.randint(0, 256, (6, 1, 8, 8), generator=torch.Generator().manual_seed(0)) / 255
    pngs = [base64.b64encode(image_conversion.to_png(image)).decode() for image in x]
    answer = other.classify(other.stack(pngs))
    assert (answer["model"], answer["model_sha256"]) == (model.name, model.manifest.model_sha256)
    plain = TorchPredictionModel(model)
    for theirs, ours in zip(answer["predictions"], encode(plain, classify(plain, x.numpy())), strict=True):
        expected = ours.model_dump()
        assert list(theirs) == list(expected)
        assert theirs["label"] == expected["label"]
        for name in ("probability", "probabilities", "margin", "certified_radius"):
            assert theirs[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), name
        assert (theirs["certificate"] is None) == (expected["certificate"] is None)
    body, length = other.raw(x.numpy().tobytes())
    said = Answer(200, {"inference-header-content-length": str(length)}, body)
    assert inferred(said) == [one["label"] for one in answer["predictions"]]
    assert classified(Answer(200, {}, json.dumps(answer).encode())) == inferred(said)


def test_a_refusal_is_no_label():
    assert classified(Answer(422, {}, b"{}")) is None
    assert inferred(Answer(422, {}, b"{}")) is None


# Sums


def run(contender: str, what: str, images: float, settings: str = "s", **values: float) -> Run:
    numbers = {
        "requests": images,
        "images": images,
        "p50": 1,
        "p99": 2,
        "processor": 3,
        "memory": 4,
        "wrong": 0,
    }
    return Run(contender=contender, what=what, settings=settings, **{**numbers, **values})


def test_a_peer_gets_the_settings_that_were_best_for_each_kind_of_request():
    trials = [run("p", ONE, 5, "a"), run("p", ONE, 7, "b"), run("p", MANY, 9, "a"), run("p", MANY, 8, "b")]
    assert contest.best(trials) == {("p", ONE): "b", ("p", MANY): "a"}


def test_medians_are_of_each_value_and_wrong_answers_add_up():
    middle = contest.median(
        [run("p", ONE, 1, p99=9, wrong=1), run("p", ONE, 3, p99=1, wrong=1), run("p", ONE, 2, p99=5)]
    )
    assert (middle.images, middle.p99, middle.wrong) == (2, 5, 2)


KINDS = (ONE, MANY, BINARY)


def test_goals_are_ratios_of_images_a_second():
    slow = [run(name, what, 100) for name in ("plain BentoML", "LitServe", "FastAPI", BARE) for what in KINDS]
    found = table.goals([*slow, run("Gauntlet", ONE, 249), run("Gauntlet", MANY, 100), run("Gauntlet", BINARY, 69)])
    assert [(round(goal.ratio, 2), goal.met) for goal in found] == [
        (2.49, "no"),
        (2.49, ""),
        (2.49, "yes"),
        (1.0, "yes"),
        (1.0, "yes"),
        (0.69, "no"),
        (0.69, "no"),
        (0.69, "no"),
    ]


def test_the_page_gets_a_section_once_and_keeps_the_rest(tmp_path):
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n\n## Attacks\n\nhere\n")
    publish("serving", "first\n", page)
    publish("serving", "second\n", page)
    page.write_text(page.read_text() + "\n## Later\n")
    publish("serving", "third\n", page)
    text = page.read_text()
    assert text.startswith("# Benchmarks\n\n## Attacks\n\nhere\n")
    assert text.endswith("\n## Later\n")
    assert [word in text for word in ("first", "second", "third")] == [False, False, True]
