import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from dbos import DBOS
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from service.endpoints.routes import ENDPOINTS
from service.jobs.database import WORKFLOWS
from service.jobs.job import Job
from service.jobs.queue import Jobs
from service.jobs.queue_metrics import JobMetrics
from service.observability import metrics
from service.observability.exposition import SHARED, AllProcesses, Histogram, generate_latest
from tests.service.conftest import ROOT, SHORT_REPORT, Server, arrays, pngs, wait_for

OTHERS = ("gauntlet_state_", "gauntlet_job_", "gauntlet_reports", "gauntlet_queue_", "gauntlet_workers")
"""Of the disk, the job database and the workers: they move by themselves."""


def change(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """What requests moved, this scrape aside."""
    moved = {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}
    return {
        name: value
        for name, value in moved.items()
        if name.startswith("gauntlet_") and 'route="/metrics"' not in name and not name.startswith(OTHERS)
    }


def counters(moved: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in moved.items() if "_bucket" not in name and "_sum" not in name}


def test_classify_counts_requests_images_and_radii(server: Server):
    before = server.metrics()
    answer = server.client.post("/classify", json={"model": "linear", "images": arrays(3)}).json()
    server.client.post("/classify", json={"model": "linear", "images": []})
    moved = change(before, server.metrics())
    assert counters(moved) == {
        'gauntlet_requests_total{method="POST",route="/classify",status="200"}': 1,
        'gauntlet_requests_total{method="POST",route="/classify",status="422"}': 1,
        'gauntlet_request_seconds_count{method="POST",route="/classify"}': 2,
        'gauntlet_images_total{model="linear",route="/classify"}': 3,
        'gauntlet_certified_radius_count{model="linear"}': 3,
        'gauntlet_probability_margin_count{model="linear"}': 3,
    }
    two_largest = [sorted(prediction["probabilities"])[-2:] for prediction in answer["predictions"]]
    margins = sum(first - second for second, first in two_largest)
    assert abs(moved['gauntlet_probability_margin_sum{model="linear"}'] - margins) < 1e-6
    radii = sum(prediction["certified_radius"] for prediction in answer["predictions"])
    assert abs(moved['gauntlet_certified_radius_sum{model="linear"}'] - radii) < 1e-9


def test_generate_counts_images(server: Server):
    before = server.metrics()
    server.client.post("/generate", json={"model": "gen", "n": 5})
    assert counters(change(before, server.metrics())) == {
        'gauntlet_requests_total{method="POST",route="/generate",status="200"}': 1,
        'gauntlet_request_seconds_count{method="POST",route="/generate"}': 1,
        'gauntlet_images_total{model="gen",route="/generate"}': 5,
    }


def test_attack_counts_outcomes_and_sizes(server: Server):
    images = pngs(10)
    answer = server.client.post("/classify", json={"model": "linear", "images": images}).json()
    truth = [prediction["label"] for prediction in answer["predictions"]]
    truth[0] = (truth[0] + 1) % 3
    body = {"model": "linear", "attack": "pgd", "images": images, "labels": truth, "norm": "l2", "eps": 0.08}
    before = server.metrics()
    results = server.client.post("/attack", json=body).json()["results"]
    moved = change(before, server.metrics())
    won = [result["l2"] for result in results if result["success"]]
    assert 0 < len(won) < 9
    assert counters(moved) == {
        'gauntlet_requests_total{method="POST",route="/attack",status="200"}': 1,
        'gauntlet_request_seconds_count{method="POST",route="/attack"}': 1,
        'gauntlet_images_total{model="linear",route="/attack"}': 10,
        'gauntlet_attacks_total{attack="pgd",model="linear",outcome="success"}': len(won),
        'gauntlet_attacks_total{attack="pgd",model="linear",outcome="failure"}': 9 - len(won),
        'gauntlet_attacks_total{attack="pgd",model="linear",outcome="misclassified"}': 1,
        'gauntlet_perturbation_size_count{attack="pgd",model="linear",norm="l2"}': len(won),
    }
    size = moved['gauntlet_perturbation_size_sum{attack="pgd",model="linear",norm="l2"}']
    assert abs(size - sum(won)) < 1e-9


def test_reports_are_counted_by_status(server: Server):
    wait_for(lambda: server.metrics()["gauntlet_workers"] == 1)
    before = server.metrics()
    server.finished(server.submit(SHORT_REPORT))
    after = server.metrics()
    assert after['gauntlet_reports{status="succeeded"}'] == before['gauntlet_reports{status="succeeded"}'] + 1
    assert after['gauntlet_reports{status="running"}'] == 0


def test_a_model_that_is_gone_leaves_no_series():
    for name in ("gone", "here"):
        metrics.count_predictions(name, "/classify", [0.5], [0.1])
        metrics.ATTACKED.labels(name, "pgd", "success").inc()
        metrics.PERTURBATION.labels(name, "pgd", "l2").observe(0.1)
    registry = CollectorRegistry()
    registry.register(AllProcesses(metrics.REGISTRY, lambda: {"here"}))
    text = generate_latest(registry).decode()
    assert 'model="gone"' not in text
    assert text.count('model="here"') > 5
    assert "gauntlet_requests_total" in text


COUNT = """
import pathlib, sys
from service.observability import exposition, metrics
exposition.count_together(pathlib.Path.cwd())
for _ in range(int(sys.argv[1])):
    metrics.count_predictions("m", "/classify", [0.5, 0.002], [0.1])
"""


def test_all_processes_are_added_up_those_that_have_ended_too(tmp_path: Path, monkeypatch):
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    for times in ("3", "4"):
        subprocess.run([sys.executable, "-c", COUNT, times], cwd=tmp_path, env=environ, check=True)
    for file in tmp_path.iterdir():
        assert file.stat().st_blocks * 512 >= file.stat().st_size  # a full disk ends nobody
    monkeypatch.setenv(SHARED, str(tmp_path))
    registry = CollectorRegistry()
    registry.register(AllProcesses(CollectorRegistry(), lambda: {"m"}))
    value = registry.get_sample_value
    assert value("gauntlet_images_total", {"model": "m", "route": "/classify"}) == 14
    assert value("gauntlet_certified_radius_count", {"model": "m"}) == 7
    assert value("gauntlet_certified_radius_sum", {"model": "m"}) == pytest.approx(0.7)
    assert value("gauntlet_probability_margin_bucket", {"model": "m", "le": "0.003"}) == 7
    assert value("gauntlet_probability_margin_bucket", {"model": "m", "le": "+Inf"}) == 14


def test_a_batch_is_observed_as_its_values_are():
    values = [-1.0, 0.0, 0.001, 0.0010001, 0.5, 0.5, 3.0, float("inf"), float("nan")]
    texts = []
    for together in (True, False):
        ours = CollectorRegistry()
        child = Histogram("a", "a", ["b"], buckets=(0.001, 0.5, 2), registry=ours).labels("c")
        if together:
            child.observe_all(values[:3])
            child.observe_all(values[3:])
            child.observe_all(())
        else:
            for value in values:
                child.observe(value)
        texts.append(generate_latest(ours))
    assert texts[0] == texts[1]
    assert b'le="0.5"} 6.0' in texts[0]


def oldest_is(job: Job, look: Callable[[str], float | None]) -> bool:
    """To the millisecond that the database keeps."""
    since = datetime.fromisoformat(job.created_at).timestamp()
    least, told, most = time.time() - since, look("gauntlet_queue_oldest_seconds"), time.time() - since
    assert told is not None
    return least - 0.002 <= told <= most + 0.002


def test_the_queue_is_told_while_nothing_works_on_it(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    jobs, registry = Jobs(url), CollectorRegistry()
    registry.register(JobMetrics(jobs.backlog, jobs.workers, tmp_path))
    look = registry.get_sample_value
    assert (look("gauntlet_job_database_up"), look("gauntlet_workers")) == (0, None)
    DBOS.migrate(url)
    jobs.database.migrate()
    assert (look("gauntlet_job_database_up"), look("gauntlet_workers")) == (1, 0)
    assert (look("gauntlet_reports", {"status": "queued"}), look("gauntlet_queue_oldest_seconds")) == (0, 0)
    first, second = (jobs.submit({"n": n}, {}, None, 10)[0] for n in (1, 2))
    with jobs.database.begin() as connection:
        hour_ago = sa.update(WORKFLOWS).where(WORKFLOWS.c.workflow_uuid == first.id)
        connection.execute(hour_ago.values(created_at=WORKFLOWS.c.created_at - 3_600_000))
    assert oldest_is(jobs.get(first.id), look)
    assert look("gauntlet_reports", {"status": "queued"}) == 2
    jobs.cancel(first.id)
    assert oldest_is(second, look)
    assert look("gauntlet_reports", {"status": "queued"}) == look("gauntlet_reports", {"status": "cancelled"}) == 1
    assert abs(look("gauntlet_state_free_bytes") / shutil.disk_usage(tmp_path).free - 1) < 0.1
    jobs.close()


def test_every_name_is_ours_or_the_process_s_own_and_every_500_would_be_seen(server: Server):
    """BentoML's metrics label with the raw path: they stay off. A 500 is counted from 0 on."""
    server.client.get("/models/some-path")
    errors = {name: value for name, value in server.metrics().items() if 'status="500"' in name}
    assert len(errors) == len({(endpoint.path, endpoint.method) for endpoint in ENDPOINTS})
    assert not any(errors.values())
    families = text_string_to_metric_families(server.client.get("/metrics").text)
    assert {family.name.partition("_")[0] for family in families} == {"gauntlet", "process"}


def test_what_does_not_exist_makes_one_series_only(client: httpx.Client, server: Server):
    client.get("/wp-admin")
    before = server.metrics()
    for i in range(20):
        client.get(f"/nothing/{i}")
        client.get(f"/models/none-{i}")
        client.request(f"METHOD{i}", "/nothing")
    after = server.metrics()
    assert after['gauntlet_requests_total{method="GET",route="other",status="404"}'] == 20 + before.get(
        'gauntlet_requests_total{method="GET",route="other",status="404"}', 0
    )
    fresh = {name for name in set(after) - set(before) if "_bucket" not in name}
    assert len(fresh) <= 6, fresh
    assert not any("none-" in name or "METHOD" in name for name in after)
