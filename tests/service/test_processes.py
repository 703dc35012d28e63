"""Processes that answer, and one that computes: a real server with two of the former."""

import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.multiprocess import MultiProcessCollector

from gauntlet.process_priority import AUTOGROUP
from tests import zoo
from tests.service.conftest import Server, arrays, build_models, wait_for

CLASSIFY = {"model": "linear", "images": arrays(1)}
ATTACK = {"model": "linear", "attack": "fgsm", "images": arrays(1), "norm": "l2", "eps": 0.1}
TOGETHER = 32


def loads_torch(process: psutil.Process) -> bool:
    return any("libtorch" in entry.path for entry in process.memory_maps())


def test_only_the_process_that_computes_holds_torch(server: Server):
    server.client.post("/classify", json=CLASSIFY)
    assert len(server.api()) == 2
    assert not any(map(loads_torch, server.api()))
    assert not loads_torch(server.tree()[0])
    assert loads_torch(server.compute())


def test_what_answers_goes_before_what_computes_for_somebody_who_waits_and_that_before_reports(server: Server):
    worker = server.worker()
    assert worker is not None
    ours = os.nice(0)
    nice = {"api": ours, "compute": min(19, ours + 5), "worker": min(19, ours + 10)}
    for process in (*server.api(), server.compute(), worker):
        wait_for(lambda process=process: process.nice() == nice[process.name()])
        if process.name() != "api" and AUTOGROUP.exists():
            wait_for(
                lambda process=process: (
                    Path(f"/proc/{process.pid}/autogroup").read_text().split()[-1] == str(process.nice())
                )
            )


def answered(server: Server, pid: int) -> float:
    """Classifications that one process has counted."""
    file = server.folder / "state" / f"service-{server.port}" / "metrics" / f"counter_{pid}.db"
    metrics = MultiProcessCollector.merge([str(file)] if file.exists() else [], accumulate=False)
    return sum(
        sample.value
        for metric in metrics
        for sample in metric.samples
        if sample.name == "gauntlet_requests_total" and sample.labels.get("route") == "/classify"
    )


def test_what_the_service_writes_is_for_its_user_alone(server: Server):
    state = server.folder / "state"
    assert (state / "jobs.sqlite").exists()
    assert [path for path in (state, *state.rglob("*")) if stat.S_IMODE(path.lstat().st_mode) & 0o077] == []


def test_both_answer_and_what_they_count_is_exact_together(server: Server):
    pids = [process.pid for process in server.api()]
    before, each = server.metrics(), {pid: answered(server, pid) for pid in pids}
    url, statuses = str(server.client.base_url), []
    barrier = threading.Barrier(TOGETHER)

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            client.get("/livez")
            barrier.wait()  # all connections are open: both have some of them
            statuses.extend(client.post("/classify", json=CLASSIFY).status_code for _ in range(3))

    def some() -> None:
        threads = [threading.Thread(target=ask) for _ in range(TOGETHER)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    rounds = 0
    while rounds < 10 and not all(answered(server, pid) > each[pid] for pid in pids):
        some()
        rounds += 1
    assert all(answered(server, pid) > each[pid] for pid in pids)
    n = rounds * TOGETHER * 3
    assert statuses == [200] * n
    after = server.metrics()
    for name in (
        'gauntlet_requests_total{method="POST",route="/classify",status="200"}',
        'gauntlet_images_total{model="linear",route="/classify"}',
        'gauntlet_certified_radius_count{model="linear"}',
    ):
        assert after[name] - before.get(name, 0) == n, name


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this test alone, whose compute process is killed."""
    folder = tmp_path_factory.mktemp("fragile")
    build_models(folder)
    running = Server(folder, {"attack_budget": 10**9, "attack_deadline": 600})
    running.start()
    yield running
    running.stop()


def test_a_killed_compute_process_costs_what_it_was_computing_and_no_classification(fragile: Server):
    files = {"file": ("model.onnx", zoo.dense((1, 8, 8), last="Softmax"))}
    taken = fragile.client.post("/models", files=files, data={"settings": json.dumps({"name": "mine"})})
    assert taken.status_code == 201, taken.text
    unloaded = fragile.client.post("/v2/repository/models/conv/unload")
    assert unloaded.status_code == 200, unloaded.text
    killed, answers = fragile.compute(), []
    endless = {**ATTACK, "attack": "pgd", "eps": 1e-4, "params": {"steps": 10_000, "restarts": 50}}
    attack = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{fragile.client.base_url}/attack", json=endless, timeout=120))
    )
    before = killed.cpu_times().user
    attack.start()
    wait_for(lambda: killed.cpu_times().user > before + 0.3)
    killed.kill()
    killed.wait()
    statuses = [fragile.client.post("/classify", json=CLASSIFY).status_code for _ in range(20)]
    assert statuses == [200] * 20
    refused = fragile.client.post("/attack", json=ATTACK)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
    assert refused.headers["retry-after"]
    assert "compute" in fragile.client.get("/readyz").json()["error"]["details"]["components"]
    attack.join()
    assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (503, "not_ready")
    wait_for(lambda: fragile.client.get("/readyz").status_code == 200)
    assert fragile.compute() != killed
    assert fragile.client.post("/attack", json=ATTACK).status_code == 200
    assert fragile.client.post("/classify", json={**CLASSIFY, "model": "mine"}).status_code == 200
    gone = fragile.client.post("/attack", json={**ATTACK, "model": "conv"})
    assert gone.json()["error"]["code"] == "unknown_model"  # what was taken out of service stays so


def test_a_model_taken_out_of_service_is_so_in_every_process(fragile: Server):
    url = str(fragile.client.base_url)
    for action, status in (("load", 200), ("unload", 404)):
        assert fragile.client.post(f"/v2/repository/models/conv/{action}").status_code == 200
        for _ in range(TOGETHER):
            body = {**CLASSIFY, "model": "conv"}
            assert httpx.post(f"{url}/classify", json=body, timeout=60).status_code == status


def test_the_socket_of_the_compute_process_is_nobody_elses(fragile: Server):
    (path,) = {
        Path(connection.laddr)
        for connection in fragile.compute().net_connections("unix")
        if str(connection.laddr).endswith(".sock")
    }
    assert path.parent.stat().st_mode & 0o777 == 0o700
