"""A real server that asks for keys, from its start to the job database; and what is left of a request on the disk."""

import contextlib
import itertools
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.service.conftest import (
    LONG_REPORT,
    PATIENCE,
    ROOT,
    SHORT_REPORT,
    TINY_REPORT,
    Server,
    build_models,
    encoded,
    wait_for,
)
from tests.service.in_process import SECRETS, entry
from tests.service.test_attack import SLOW
from tests.service.test_start import refusal

CLIENT = """
import sys
import bentoml
with bentoml.SyncHTTPClient(sys.argv[1], token=sys.argv[2]) as client:
    print(client.classify({"model": "linear", "images": [[[[0.5] * 8] * 8]]})["model"])
"""
IMAGE = encoded(np.random.default_rng(5).integers(0, 256, (8, 8), dtype=np.uint8))
PIXELS = IMAGE[60:100]  # what comes before is the same in every PNG of this size
ATTACK = {"model": "linear", "attack": "fgsm", "images": [IMAGE], "norm": "l2", "eps": 0.1}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("keyed")
    build_models(folder)
    (folder / "keys").write_text(
        "\n".join(
            [
                *(entry(scope, secret, scope, reports_per_day=1) for scope, secret in SECRETS.items()),
                *(entry(name, name, "attack") for name in ("greedy", "other")),
            ]
        )
    )
    server = Server(folder, {"keys_file": folder / "keys", "log_format": "json", "attack_deadline": 3})
    server.start()
    yield server
    server.stop()


def key(scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {SECRETS[scope]}"}


def test_calls_jobs_and_metrics_of_a_keyed_server(keyed: Server):
    client = keyed.client
    wait_for(lambda: client.get("/readyz").status_code == 200)
    refused = client.post("/classify", json={"model": "linear", "images": [IMAGE]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthenticated")
    assert client.post("/classify", json={"model": "linear", "images": [IMAGE]}, headers=key("read")).status_code == 200
    assert client.post("/attack", json=ATTACK, headers=key("read")).status_code == 403
    assert client.post("/attack", json=ATTACK, headers=key("attack")).status_code == 200
    body = {**SHORT_REPORT, "models": ["linear"], "attacks": ["ddn"]}
    accepted = client.post("/robustness-report", json=body, headers=key("attack"))
    assert accepted.status_code == 202
    url = accepted.headers["location"]
    again = client.post("/robustness-report", json=body, headers=key("attack"))
    assert (again.status_code, again.json()["error"]["code"]) == (429, "quota_exceeded")
    assert client.get(url, headers=key("read")).status_code == 404
    assert client.get(url, headers=key("attack")).json()["id"] == accepted.json()["id"]
    assert client.get("/robustness-report", headers=key("read")).json()["items"] == []
    assert len(client.get("/robustness-report", headers=key("admin")).json()["items"]) == 1
    for base in (str(client.base_url), keyed.probe):
        assert httpx.get(f"{base}/metrics").status_code == 401
        assert httpx.get(f"{base}/metrics", headers=key("read")).status_code == 200
        assert httpx.get(f"{base}/livez").status_code == 200
    assert "linear" not in client.get("/").text
    assert "securitySchemes" in client.get("/openapi.json").json()["components"]


def test_a_report_begins_beside_those_of_a_key_that_asks_for_many(keyed: Server):
    def submitted(name: str, body: dict[str, Any]) -> str:
        """Its path. A worker that has no core for a moment may keep everybody from the job database."""
        asked = {"X-API-Key": name, "Idempotency-Key": str(uuid.uuid4())}
        answers = (keyed.client.post("/robustness-report", json=body, headers=asked) for _ in itertools.count())
        return wait_for(lambda: (answer := next(answers)).is_success and answer.json()["status_url"])

    def told(path: str, name: str) -> dict[str, Any]:
        return keyed.client.get(path, headers={"X-API-Key": name}).json()

    wait_for(lambda: keyed.client.get("/readyz").status_code == 200)
    many = [submitted("greedy", LONG_REPORT) for _ in range(2)]
    other = submitted("other", TINY_REPORT)
    wait_for(lambda: told(other, "other").get("progress", 0) > 0)
    assert sorted(told(path, "greedy")["status"] for path in many) == ["queued", "running"]
    for name, path in (*(("greedy", path) for path in many), ("other", other)):
        keyed.client.post(f"{path}/cancel", headers={"X-API-Key": name})


def test_an_attack_ends_at_its_deadline(keyed: Server):
    ended = keyed.client.post("/attack", json={**SLOW, "images": [IMAGE]}, headers=key("attack"))
    assert (ended.status_code, ended.json()["error"]["code"]) == (504, "deadline_exceeded")


def test_bentomls_client_brings_the_key_as_its_token(keyed: Server):
    command = [sys.executable, "-c", CLIENT, str(keyed.client.base_url), SECRETS["read"]]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert output.stdout.strip() == "linear", output.stderr


def test_no_key_and_no_image_is_left_in_the_log_or_on_the_disk(keyed: Server):
    client, guess = keyed.client, "gauntlet_a-guess-that-must-not-be-kept"
    client.post("/classify", json={"model": "linear", "images": [IMAGE], "surprise": IMAGE}, headers=key("read"))
    client.post(
        "/classify", content=f'{{"images": ["{IMAGE}"', headers={**key("read"), "Content-Type": "application/json"}
    )
    client.post("/attack", json={**ATTACK, "images": [IMAGE, IMAGE[:-9]]}, headers=key("attack"))
    client.get("/models", headers={"X-API-Key": guess, "X-Request-ID": "the-last"})
    wait_for(lambda: len(keyed.entries("the-last")) >= 2)
    (line,) = [entry for entry in keyed.entries("the-last") if "audit" in entry]
    assert line["audit"] == "unknown key"
    assert (line["request_id"], line["client"], line["logger"]) == ("the-last", "127.0.0.1", "gauntlet.audit")
    kept = [path for path in keyed.folder.rglob("*") if path.is_file()]
    assert {"log", "jobs.sqlite"} <= {path.name for path in kept}
    for path in kept:
        with contextlib.suppress(FileNotFoundError):  # SQLite's journal comes and goes
            content = path.read_bytes()
            for secret in (*SECRETS.values(), guess, PIXELS):
                assert secret.encode() not in content, path


def test_a_server_that_others_could_reach_does_not_start_without_keys(tmp_path: Path):
    build_models(tmp_path)
    assert "GAUNTLET_OPEN=1" in refusal(tmp_path, host="0.0.0.0")
    assert "GAUNTLET_OPEN=1" in refusal(tmp_path, "service.worker", host="0.0.0.0", worker_port=1)
