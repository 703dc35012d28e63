"""How a report follows its shards, against a job database that answers what the test says."""

from typing import Any

import pytest

from gauntlet.errors import Cancelled
from service.errors import Code, ServiceError
from service.jobs import progress
from service.jobs.progress import Pace, ReportFailed, begin, follow
from service.jobs.status import Part

COSTS = {"a": 3.0, "b": 1.0}


class Board:
    """One report. Each look at the shards shows the next of ``scenes``; None: the database is away."""

    def __init__(self, *scenes: dict[str, Part] | None, **told: Any) -> None:
        self.scenes, self.told, self.heard, self.drops = list(scenes), told, [], 0

    def attributes(self, job_id: str) -> dict[str, Any]:
        return self.told

    def parts(self, job_id: str) -> dict[str, Part]:
        scene = self.scenes.pop(0) if len(self.scenes) > 1 else self.scenes[0]
        if scene is None:
            raise ServiceError(Code.JOBS_UNAVAILABLE, "away")
        return scene

    def set_attributes(self, job_id: str, **told: Any) -> None:
        self.told.update(told)
        self.heard.append(told)

    def cancel_waiting_shards(self, job_id: str) -> None:
        self.drops += 1


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(progress, "LOOK", 0.0)


def parts(a: str, b: str, **told: Any) -> dict[str, Part]:
    return {"a": Part(a, told), "b": Part(b, {})}


RUNNING, DONE = parts("PENDING", "ENQUEUED", done=1.5), parts("SUCCESS", "SUCCESS")


def run(board: Any, floor: float = 0.0) -> None:
    follow(board, "report", COSTS, floor)


def test_it_returns_once_all_have_succeeded_and_tells_progress_meanwhile():
    board = Board(RUNNING, parts("SUCCESS", "PENDING"), DONE)
    run(board)
    assert [told["progress"] for told in board.heard] == [1.5 / 4, 3 / 4]
    assert board.drops == 0


def test_a_database_that_is_away_is_waited_for():
    board = Board(RUNNING, None, None, DONE)
    run(board)
    assert len(board.heard) == 1


def test_a_failed_shard_ends_the_others_before_the_report_fails():
    failed = {"a": Part("ERROR", {"error": "no such file"}), "b": Part("ENQUEUED", {})}
    still = {**failed, "b": Part("PENDING", {})}
    board = Board(failed, still, {**failed, "b": Part("SUCCESS", {})})
    with pytest.raises(ReportFailed, match="no such file"):
        run(board)
    assert board.told["failed"] == "no such file"
    assert board.drops == 2


def test_a_failure_told_by_the_worker_before_is_the_reason():
    board = Board(parts("CANCELLED", "ERROR"), failed="the first")
    with pytest.raises(ReportFailed, match="the first"):
        run(board)


def test_a_shard_that_kills_its_workers_fails_the_report():
    with pytest.raises(ReportFailed, match="died each time"):
        run(Board(parts("MAX_RECOVERY_ATTEMPTS_EXCEEDED", "SUCCESS")))


def test_it_is_cancelled_when_nothing_computes():
    board = Board(RUNNING, RUNNING, parts("PENDING", "CANCELLED"), parts("SUCCESS", "CANCELLED"), cancel=True)
    with pytest.raises(Cancelled):
        run(board)
    assert board.drops == len(board.heard) == 3


def test_a_wish_from_before_the_beginning_is_heard_unless_shards_may_be_computed_already():
    with pytest.raises(Cancelled):
        begin(Board({}, cancel=True), "report")
    assert begin(Board(RUNNING, cancel=True), "report") == 0


def test_a_new_worker_goes_on_from_the_progress_told():
    board = Board({}, progress=0.6)
    floor = begin(board, "report")
    assert floor == 0.6
    board.scenes = [RUNNING, DONE]
    run(board, floor)
    assert [told["progress"] for told in board.heard] == [0.6, 0.6]


def test_other_errors_are_not_waited_for(monkeypatch):
    board = Board(RUNNING)

    def unknown(_: str) -> None:
        raise ServiceError(Code.UNKNOWN_REPORT, "gone")

    monkeypatch.setattr(board, "attributes", unknown)
    with pytest.raises(ServiceError, match="gone"):
        run(board)


def test_the_time_still_to_go_is_as_the_time_since_the_first_look():
    pace = Pace(100, 0.0)
    assert pace.at(40, 10.0) == (0.4, None)
    assert pace.at(60, 20.0) == (0.6, 20.0)
    assert pace.at(50, 30.0) == (0.6, 100.0)  # a killed worker's share is computed again; progress does not fall
    assert pace.at(100, 40.0) == (0.99, 0.0)
