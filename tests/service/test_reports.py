import json
from typing import Any

import httpx

from gauntlet.report.build import cells
from gauntlet.report.schema import Report, ReportRequest
from service.schemas.main_calls import ReportStatus
from tests.service.conftest import LONG_REPORT, SHORT_REPORT, TINY_REPORT, Server, arrays, wait_for

CELLS = len(cells(ReportRequest.model_validate(LONG_REPORT)))


def running(server: Server, body: dict[str, Any] = LONG_REPORT, cells_done: int = 3) -> str:
    """A report that has been under way for some cells."""
    report = server.submit(body)
    wait_for(lambda: len(server.shards(report)) >= cells_done)
    assert server.status(report)["status"] == "running"
    return report


def compute_another(server: Server) -> None:
    """Whatever waited before it has had its turn then."""
    assert server.finished(server.submit(TINY_REPORT))["status"] == "succeeded"


def test_from_the_request_to_the_page(server: Server):
    answer = server.client.post("/robustness-report", json=SHORT_REPORT)
    assert answer.status_code == 202
    accepted = answer.json()
    assert answer.headers["location"] == accepted["status_url"] == f"/robustness-report/{accepted['id']}"
    assert server.client.get(accepted["report_url"]).json()["error"]["code"] == "report_not_ready"
    status = server.finished(accepted["id"])
    ReportStatus.model_validate(status)
    assert (status["status"], status["progress"], status["eta_seconds"], status["error"]) == (
        "succeeded",
        1,
        None,
        None,
    )
    report = Report.model_validate(status["report"])
    assert report.request == ReportRequest.model_validate(SHORT_REPORT)
    assert [model.name for model in report.models] == ["linear", "conv"]
    assert [status[name] for name in ("models", "dataset", "n", "sound")] == [["linear", "conv"], "tiny", 10, True]
    page = server.client.get(accepted["report_url"])
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")


def test_a_report_with_a_budget_is_planned_by_a_worker_and_says_what_it_left_out(server: Server):
    done = server.finished(server.submit({**LONG_REPORT, "budget_seconds": 1}))
    assert done["status"] == "succeeded"
    assert done["n"] == LONG_REPORT["n"]
    report = Report.model_validate(done["report"])
    assert report.request.n < LONG_REPORT["n"]
    assert report.models[0].clean.n == report.request.n
    (left_out,) = report.left_out
    assert left_out.startswith("To end within 1 s, this was left out: ")
    assert left_out in server.client.get(done["report_url"]).text
    answer = server.client.post("/robustness-report", json={**LONG_REPORT, "budget_seconds": 0})
    assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (422, "budget_seconds")


def test_progress_rises_the_eta_falls_and_classify_answers_meanwhile(server: Server):
    report = running(server, cells_done=1)
    seen: list[dict[str, Any]] = []

    def ended() -> dict[str, Any] | None:
        if (status := server.status(report))["status"] != "running":
            return status
        seen.append(status)
        assert server.client.post("/classify", json={"model": "conv", "images": arrays(4)}).status_code == 200
        return None

    status = wait_for(ended)
    progress = [status["progress"] for status in seen]
    assert progress == sorted(progress)
    assert len(set(progress)) >= 2
    assert all(0 <= value < 1 for value in progress)
    assert any(status["eta_seconds"] for status in seen)
    assert status["status"] == "succeeded"


def test_cancelled_is_said_once_nothing_computes(server: Server):
    report = running(server)
    refused = server.client.delete(f"/robustness-report/{report}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "report_active")
    answer = server.client.post(f"/robustness-report/{report}/cancel")
    assert answer.status_code == 202
    assert answer.json()["status"] in ("running", "cancelled")  # the worker may hear of it before the answer is read
    status = server.finished(report)
    assert status["status"] == "cancelled"
    assert status["report"] is None
    shards = server.shards(report)
    assert "gauntlet_worker_busy 0.0" in httpx.get(f"{server.probe}/metrics").text.splitlines()
    compute_another(server)
    assert server.shards(report) == shards
    assert len(shards) < CELLS
    assert "Traceback" not in json.dumps(server.entries(report))  # it is no error
    again = server.client.post(f"/robustness-report/{report}/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "report_ended")


def test_a_queued_report_is_cancelled_at_once_and_never_computed(server: Server):
    first = running(server, cells_done=1)
    second = server.submit(LONG_REPORT)
    assert server.status(second)["status"] == "queued"
    assert server.client.post(f"/robustness-report/{second}/cancel").json()["status"] == "cancelled"
    server.client.post(f"/robustness-report/{first}/cancel")
    assert server.finished(first)["status"] == "cancelled"
    compute_another(server)
    assert server.shards(second) == {}


def test_ended_reports_are_deleted(server: Server):
    report = server.submit(TINY_REPORT)
    server.finished(report)
    answer = server.client.delete(f"/robustness-report/{report}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert server.client.get(f"/robustness-report/{report}").status_code == 404
    assert server.client.delete(f"/robustness-report/{report}").status_code == 404
    assert server.shards(report) == {}


def test_an_idempotency_key_finds_its_report_again(server: Server):
    headers = {"Idempotency-Key": "the first"}
    answers = [server.client.post("/robustness-report", json=TINY_REPORT, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 200]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    other = server.client.post("/robustness-report", json={**TINY_REPORT, "n": 9}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")
    assert other.json()["error"]["details"]["field"] == "Idempotency-Key"
    assert server.submit(TINY_REPORT) != answers[0].json()["id"]
    assert server.finished(answers[0].json()["id"])["status"] == "succeeded"


def test_the_list_has_every_report_once_and_filters_by_status(server: Server):
    for report in [server.submit(TINY_REPORT) for _ in range(3)]:
        server.finished(report)
    whole = server.client.get("/robustness-report", params={"limit": 100}).json()
    assert whole["next_cursor"] is None
    assert all("report" not in item for item in whole["items"])
    assert [(item["models"], item["dataset"], item["n"]) for item in whole["items"][:3]] == [
        (["linear"], "tiny", 1)
    ] * 3
    stamps = [item["created_at"] for item in whole["items"]]
    assert stamps == sorted(stamps, reverse=True)
    paged: list[str] = []
    cursor = None
    while True:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = server.client.get("/robustness-report", params=query).json()
        paged += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged == [item["id"] for item in whole["items"]]
    for status in ("succeeded", "running"):
        listed = server.client.get("/robustness-report", params={"status": status, "limit": 100}).json()["items"]
        assert listed == [item for item in whole["items"] if item["status"] == status]


def test_a_killed_worker_loses_no_finished_shard(server: Server):
    report = running(server)
    before = server.shards(report)
    progress = server.status(report)["progress"]
    worker = server.worker()
    assert worker is not None
    worker.kill()
    assert server.client.post("/classify", json={"model": "linear", "images": arrays(1)}).status_code == 200
    assert server.status(report)["progress"] >= progress
    status = server.finished(report)
    assert status["status"] == "succeeded", status
    after = server.shards(report)
    assert {name: after[name] for name in before} == before
    assert len(after) == CELLS
    Report.model_validate(status["report"])
