"""SIGTERM: who is in gets an answer, nobody new gets in, and reports go on elsewhere."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from service.jobs.queue import Jobs
from service.jobs.status import Status
from service.settings import Settings
from tests.service.conftest import LONG_REPORT, PATIENCE, ROOT, Server, arrays, build_models, environment, wait_for

DRAIN = 600
REPORT = {**LONG_REPORT, "models": ["conv"], "attacks": ["pgd"]}
TWICE = """
import asyncio, os, signal, socket, sys
from pathlib import Path
from service.middleware import drain
from service.process_lock import ProcessLock

async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    sys.argv += ["--fd", str(listener.fileno())]
    signal.signal(signal.SIGTERM, lambda *_: print("uvicorn hears it", flush=True))
    drain.drain_on_sigterm(0, ProcessLock(Path(sys.argv[1])))
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    listener.close()
    await asyncio.Event().wait()

asyncio.run(main())
"""
LONG = {"steps": 3000}
ENDLESS = {"steps": 10_000, "restarts": 50}


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    build_models(tmp_path)
    server = Server(tmp_path, {"drain_s": request.param, "attack_budget": 10**9, "attack_deadline": PATIENCE})
    server.start()
    yield server
    if server.process.poll() is None:
        server.stop(signal.SIGKILL)
    server.client.close()
    server.log.close()


def attack(server: Server, params: dict[str, int]) -> httpx.Response:
    body = {"model": "conv", "attack": "pgd", "norm": "l2", "eps": 1e-4, "images": arrays(4), "params": params}
    return httpx.post(f"http://127.0.0.1:{server.port}/attack", json=body, timeout=PATIENCE)


def begun(server: Server, pool: ThreadPoolExecutor, params: dict[str, int]) -> Future[httpx.Response]:
    """An attack that computes, in vain: a success would end it early."""
    compute = server.compute()
    before = compute.cpu_times().user
    answer = pool.submit(attack, server, params)
    wait_for(lambda: compute.cpu_times().user > before + 0.5 or answer.done())
    assert not answer.done()
    return answer


def refused(server: Server) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{server.port}/livez", timeout=PATIENCE)
    except httpx.ConnectError as error:
        return "refused" in str(error)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("server", [DRAIN], indirect=True)
def test_a_running_request_finishes_new_ones_are_refused_and_a_report_goes_on_elsewhere(server: Server):
    report = server.submit(REPORT)
    wait_for(lambda: server.status(report)["progress"] > 0)
    with ThreadPoolExecutor() as pool:
        answer = begun(server, pool, LONG)
        tree = server.tree()
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refused(server), every=0.02)
        assert not answer.done()  # refused while somebody is still served
        assert answer.result().status_code == 200
        assert server.process.wait(PATIENCE) == 0
    _, alive = psutil.wait_procs(tree, PATIENCE)
    assert not alive
    assert elsewhere(server, report).status is Status.SUCCEEDED


def elsewhere(server: Server, report: str) -> Any:
    """The report once a worker that runs by itself has finished it."""
    jobs = Jobs(Settings(state=server.folder / "state").database_url)
    command = [sys.executable, "-m", "service.worker"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(server.folder)) as worker:
        try:
            wait_for(lambda: jobs.get(report).status not in (Status.QUEUED, Status.RUNNING))
            return jobs.get(report)
        finally:
            worker.terminate()
            jobs.close()


@pytest.mark.slow
@pytest.mark.parametrize("server", [2], indirect=True)
def test_what_takes_longer_is_told_so_and_waits_for_nothing(server: Server):
    with ThreadPoolExecutor() as pool:
        answer = begun(server, pool, ENDLESS)
        server.process.send_signal(signal.SIGTERM)
        response = answer.result()
        assert server.process.wait(PATIENCE) == 0
    assert response.status_code == 503
    assert response.headers["retry-after"]
    error = response.json()["error"]
    assert (error["code"], error["request_id"]) == ("not_ready", response.headers["x-request-id"])
    assert "ending" in error["message"]
    assert "Traceback" not in server.written()


def test_a_second_sigterm_changes_nothing(tmp_path: Path):
    """Whoever ends a process group sends one to the API process, and so does its parent."""
    done = subprocess.run(
        [sys.executable, "-c", TWICE, str(tmp_path / "lock")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "uvicorn hears it\n" * 2
