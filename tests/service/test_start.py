"""How the service refuses to start; how it comes back, and ends: step by step, with a server of its own."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gauntlet.report.schema import Report
from service.settings import Settings, SettingsError
from service.supervisor import check
from tests import tiny
from tests.service.conftest import (
    LONG_REPORT,
    PATIENCE,
    ROOT,
    SHORT_REPORT,
    Server,
    arrays,
    build_models,
    environment,
    free_port,
    wait_for,
)


def refusal(folder: Path, module: str = "service", **settings: object) -> str:
    """The last line of a start that ends with status 1."""
    ended = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=environment(folder, **{"port": free_port(), **settings}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    return ended.stderr.strip().splitlines()[-1]


def test_a_setting_that_cannot_be_is_named(tmp_path: Path):
    assert "GAUNTLET_PORT=http" in refusal(tmp_path, port="http")
    assert "GAUNTLET_DEVICE=tpu" in refusal(tmp_path, device="tpu")


def test_a_worker_without_its_database_says_so(tmp_path: Path):
    url = f"postgresql://gauntlet:secret@127.0.0.1:{free_port()}/jobs"
    reason = refusal(tmp_path, "service.worker", database_url=url)
    assert "the job database cannot be used" in reason
    assert "secret" not in reason


def test_a_state_folder_that_takes_no_files_is_named(tmp_path: Path):
    build_models(tmp_path)
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(SettingsError, match=r"GAUNTLET_STATE=.*cannot be written"):
        check(Settings(models=tmp_path / "models", state=tmp_path / "state"))


def test_a_flipped_byte_ends_the_start_with_the_files_name(tmp_path: Path):
    build_models(tmp_path)
    model = tmp_path / "models" / "artifacts" / "conv" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[100] ^= 1
    model.write_bytes(content)
    reason = refusal(tmp_path)
    assert str(model) in reason
    assert "sha256" in reason


@pytest.mark.slow
def test_what_only_the_loading_of_models_shows_ends_the_start_too(tmp_path: Path):
    build_models(tmp_path)
    (tmp_path / "models" / "evalsets" / "tiny.npz").write_bytes(b"not one")
    assert "tiny.npz" in refusal(tmp_path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("start")
    build_models(folder)
    running = Server(folder, {})
    running.start()
    yield running
    if running.process.poll() is None:
        running.stop()


@contextlib.contextmanager
def worker(server: Server, **settings: object) -> Iterator[None]:
    """One that runs by itself, as on another machine."""
    command = [sys.executable, "-m", "service.worker"]
    environ = environment(server.folder, **settings)
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=server.log, stderr=server.log) as process:
        try:
            yield
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.mark.slow
def test_a_second_worker_of_the_same_name_is_refused(server: Server):
    with worker(server, executor="one"):
        wait_for(lambda: server.metrics()["gauntlet_workers"] == 2)
        assert "worker named one" in refusal(server.folder, "service.worker", executor="one")


@pytest.mark.slow
def test_a_killed_service_loses_nothing_and_leaves_nothing_behind(server: Server):
    """Only its first process is killed: the others must go too, and free the port. It comes back without a worker."""
    done = server.submit(SHORT_REPORT, **{"Idempotency-Key": "before"})
    result = server.finished(done)
    report = server.submit(LONG_REPORT)
    wait_for(lambda: len(server.shards(report)) >= 3)
    before, progress = server.shards(report), server.status(report)["progress"]
    server.stop(signal.SIGKILL)
    server.settings["local_workers"] = 0
    server.start("/livez")
    assert server.status(done) == result
    wait_for(lambda: "compute" not in server.client.get("/readyz").text)
    assert server.submit(SHORT_REPORT, **{"Idempotency-Key": "before"}) == done
    assert server.status(report)["status"] == "running"
    assert server.status(report)["progress"] >= progress
    with worker(server):
        status = server.finished(report)
    assert status["status"] == "succeeded"
    Report.model_validate(status["report"])
    after = server.shards(report)
    assert {name: after[name] for name in before} == before


@pytest.mark.slow
def test_without_a_worker_it_is_alive_but_not_ready_and_reports_wait(server: Server):
    answer = server.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    error = answer.json()["error"]
    assert error["code"] == "not_ready"
    assert set(error["details"]["components"]) == {"worker"}
    assert server.client.post("/classify", json={"model": "linear", "images": arrays(1)}).status_code == 200
    model = server.folder / "models" / "artifacts" / "conv" / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole + b"x")
    doomed, report = (
        server.submit({**SHORT_REPORT, "models": ["conv"]}),
        server.submit({**SHORT_REPORT, "models": ["linear"]}),
    )
    assert server.status(doomed)["status"] == server.status(report)["status"] == "queued"
    with worker(server):
        failed = server.finished(doomed)
        assert failed["status"] == "failed"
        assert str(model) in failed["error"]
        assert server.client.get(failed["report_url"]).status_code == 409
        model.write_bytes(whole)
        assert server.finished(report)["status"] == "succeeded"
        tiny.convolutional(model.parent, seed=9)  # trained again while the service still has the old one
        replaced = server.finished(server.submit({**SHORT_REPORT, "models": ["conv"]}))
        assert replaced["status"] == "failed"
        assert "was replaced" in replaced["error"]
        tiny.convolutional(model.parent)
        assert server.client.get("/readyz").status_code == 200
        server.submit(LONG_REPORT)
    assert server.client.get("/readyz").status_code == 503


@pytest.mark.slow
def test_without_the_job_database_only_reports_are_away(server: Server):
    state = server.folder / "state"
    (state / "jobs.sqlite").rename(state / "elsewhere")
    answer = server.client.get("/readyz")
    assert answer.status_code == 503
    assert set(answer.json()["error"]["details"]["components"]) == {"jobs"}
    refused = server.client.post("/robustness-report", json=SHORT_REPORT)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "jobs_unavailable")
    assert refused.headers["retry-after"]
    assert server.client.post("/classify", json={"model": "linear", "images": arrays(1)}).status_code == 200
    assert "gauntlet_workers" not in server.metrics()
    (state / "elsewhere").rename(state / "jobs.sqlite")
    assert set(server.client.get("/readyz").json()["error"]["details"]["components"]) == {"worker"}


@pytest.mark.slow
def test_it_ends_when_told(server: Server):
    assert server.stop(signal.SIGTERM) == 0
    assert "Traceback" not in server.written()
