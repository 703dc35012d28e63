import contextlib
import http.client
import json
import select
import socket
from typing import Any

import httpx
import pytest

from service.schemas.main_calls import AttackResponse
from tests.service.conftest import BUDGET, PATIENCE, Server, arrays, pngs, wait_for

SLOW = {"model": "linear", "attack": "pgd", "norm": "l2", "eps": 1e-6, "params": {"steps": 900, "restarts": 100}}


def labels(client: httpx.Client, images: list, model: str = "linear") -> list[int]:
    answer = client.post("/classify", json={"model": model, "images": images}).json()
    return [prediction["label"] for prediction in answer["predictions"]]


@pytest.mark.parametrize("form", ["png", "array"])
@pytest.mark.parametrize(
    ("attack", "norm", "eps"), [("pgd", "linf", 0.1), ("pgd", "l2", 0.6), ("ddn", "l2", None), ("fgsm", "linf", 0.1)]
)
def test_a_success_posted_back_gives_the_adversarial_label(
    client: httpx.Client, form: str, attack: str, norm: str, eps: float | None
):
    body = {"model": "linear", "attack": attack, "images": pngs(12), "norm": norm, "eps": eps, "format": form}
    answer = client.post("/attack", json=body)
    assert answer.status_code == 200, answer.text
    AttackResponse.model_validate(answer.json())
    won = [result for result in answer.json()["results"] if result["success"]]
    assert len(won) > 6
    assert labels(client, [result["image"] for result in won]) == [result["adversarial_label"] for result in won]
    for result in won:
        assert result["clean_label"] == result["label"] != result["adversarial_label"]
        assert (result["minimal_l2"] is None) == (attack != "ddn")
        if eps is not None:
            assert result[norm] <= eps + 1e-6
        else:
            assert result["minimal_l2"] <= result["l2"] + 0.05


def test_without_labels_the_accuracies_are_null_and_without_eps_the_robust_one(client: httpx.Client):
    images = pngs(8)
    truth = labels(client, images)
    body = {"model": "linear", "attack": "ddn", "images": images, "norm": "l2"}
    summaries = [
        client.post("/attack", json={**body, **extra}).json()["summary"]
        for extra in ({}, {"eps": 0.3}, {"labels": truth}, {"labels": truth, "eps": 0.3})
    ]
    assert [summary["clean_accuracy"] for summary in summaries] == [None, None, 1, 1]
    assert [summary["robust_accuracy"] is None for summary in summaries] == [True, True, True, False]
    assert summaries[0]["success_rate"] == 1
    assert summaries[3]["robust_accuracy"] == pytest.approx(1 - summaries[3]["success_rate"])


def test_what_is_wrong_from_the_start_is_no_success_and_a_failed_minimum_norm_attack_shows_nothing(
    client: httpx.Client,
):
    images = pngs(6)
    truth = labels(client, images)
    wrong = [(truth[0] + 1) % 3, *truth[1:]]
    body = {"model": "linear", "attack": "ddn", "images": images, "labels": wrong, "norm": "l2", "eps": 1e-4}
    answer = client.post("/attack", json=body).json()
    assert [result["success"] for result in answer["results"]] == [False] * 6
    for result in answer["results"]:
        assert result["image"] is result["noise"] is result["l2"] is result["adversarial_label"] is None
    assert answer["summary"]["clean_accuracy"] == pytest.approx(5 / 6)
    assert answer["summary"]["robust_accuracy"] == pytest.approx(5 / 6)
    assert answer["summary"]["success_rate"] == 0
    assert answer["summary"]["median_l2"] is None


def test_targeted_success_is_the_target(client: httpx.Client):
    images = pngs(6)
    target = [(label + 1) % 3 for label in labels(client, images)]
    body = {"model": "linear", "attack": "pgd", "images": images, "target_labels": target, "norm": "l2", "eps": 2}
    results = client.post("/attack", json=body).json()["results"]
    assert all(result["success"] for result in results)
    assert [result["adversarial_label"] for result in results] == target


def test_transfer_tells_what_the_other_model_says_to_the_returned_image(client: httpx.Client):
    body = {"model": "linear", "attack": "pgd", "images": pngs(10), "norm": "l2", "eps": 2, "transfer_to": ["conv"]}
    results = client.post("/attack", json=body).json()["results"]
    shown = [result["transfer"]["conv"] for result in results]
    assert labels(client, [result["image"] for result in results], "conv") == [entry["label"] for entry in shown]
    before = labels(client, pngs(10), "conv")
    for result, entry, clean in zip(results, shown, before, strict=True):
        assert entry["fooled"] == (clean == result["label"] != entry["label"])


def test_the_same_seed_gives_the_same_answer(client: httpx.Client):
    body = {"model": "conv", "attack": "noise", "images": arrays(4), "norm": "linf", "eps": 0.2, "format": "array"}
    first, again, other = (client.post("/attack", json={**body, "seed": seed}).json()["results"] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_too_expensive_says_the_cost_the_limit_and_the_way_out(client: httpx.Client):
    body = {**SLOW, "images": arrays(2), "transfer_to": ["conv"]}
    error = client.post("/attack", json=body)
    assert error.status_code == 422
    details = error.json()["error"]["details"]
    assert error.json()["error"]["code"] == "too_expensive"
    assert details["cost"] == 2 * 900 * 100 * 2
    assert details["limit"] == BUDGET
    assert details["use"] == "POST /robustness-report"


def test_one_computes_one_waits_one_is_too_many_and_predictions_do_not_wait(server: Server):
    """A certificate of a smoothed classifier is where attacks are. Nobody is served that has hung up."""
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(asked(server, {**SLOW, "images": arrays(1)})) for _ in range(3)]
        (refused,), _, _ = select.select(lines, [], [], PATIENCE)
        answer = http.client.HTTPResponse(refused)
        answer.begin()
        assert (answer.status, json.load(answer)["error"]["code"]) == (429, "too_busy")
        assert answer.headers["retry-after"]
        body = {"model": "linear", "images": arrays(1)}
        smoothed = server.client.post("/classify", json={**body, "smoothing": {"sigma": 0.1, "samples": 100}})
        assert (smoothed.status_code, smoothed.json()["error"]["code"]) == (429, "too_busy")
        assert server.client.post("/classify", json=body).status_code == 200
        assert select.select([line for line in lines if line is not refused], [], [], 0) == ([], [], [])
    quick = {"model": "linear", "attack": "fgsm", "images": arrays(1), "norm": "l2", "eps": 0.1}
    wait_for(lambda: server.client.post("/attack", json=quick).status_code == 200)


def asked(server: Server, body: dict[str, Any]) -> socket.socket:
    """An attack whose answer nobody has read yet. To close it is to hang up."""
    content = json.dumps(body).encode()
    head = "POST /attack HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    line = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    line.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return line
