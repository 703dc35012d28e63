"""Processes forked from one that has imported what they share: they behave as if the interpreter had started them.

A process of pytest has threads, so that the fork server is made in one of its own.
"""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
ASK = """
import json, os, signal, sys
from pathlib import Path
from service import process_starter
BEFORE
starter = process_starter.ProcessStarter()
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
"""
REPORTER = """
import json, os, sys
state = dict(argv=sys.argv[1:], cwd=os.getcwd(), environment=os.environ.get("A"), parent=os.getppid())
state.update(session=os.getsid(0) == os.getpid(), name=open("/proc/self/comm").read().strip())
state["stdin"] = sys.stdin.read()
state["path"] = "PATH" in os.environ
os.write(int(sys.argv[1]), json.dumps(state).encode())
sys.exit(7)
"""
STARTED = """
reading, writing = os.pipe()
started = starter.start("reporter", "reporter", [str(writing), "b c"], {"A": "1"}, folder, [writing])
os.close(writing)
state = json.loads(os.read(reading, 10000))
assert os.read(reading, 1) == b""  # nobody else holds the pipe
print(json.dumps({**state, "ours": os.getpid(), "status": started.wait(60), "again": started.poll()}))
"""
SIGNALLED = """
started = starter.start("sleeper", "sleeper", [], dict(os.environ), folder)
before = started.poll()
started.send_signal(signal.SIGTERM)
print(json.dumps([before, started.wait(60)]))
"""
KILLED = """
import psutil
(server,) = psutil.Process().children()
server.kill()
server.wait(60)
"""
FAILING_FORK = """
fork, forks, process_starter.START_TIMEOUT = os.fork, [], 5.0
def failing_fork():
    forks.append(None)  # the fork server is the first, the intermediate process the second
    if len(forks) == 3:
        raise BlockingIOError
    return fork()
os.fork = failing_fork
"""
NOT_FORKED = """
import atexit, psutil
atexit.register(lambda: [child.kill() for child in psutil.Process().children()])  # where it fails
(server,) = psutil.Process().children()
started = starter.start("sleeper", "sleeper", [], dict(os.environ), folder)
server.wait(60)
started.kill()
print(json.dumps(started.wait(60)))
"""
IMPATIENT = "process_starter.START_TIMEOUT = 0.5\n"
LATE = """
import atexit, psutil
atexit.register(lambda: [child.kill() for child in psutil.Process().children()])  # where it fails
(server,) = psutil.Process().children()
server.suspend()
first = starter.start("sleeper", "sleeper", [], dict(os.environ), folder)
server.resume()
second = starter.start("reporter", "reporter", ["2"], dict(os.environ), folder)
status = second.wait(60)
server.wait(60)
_, alive = psutil.wait_procs([child for child in psutil.Process().children() if child.pid != first.pid], 60)
first.kill()
print(json.dumps([status, len(alive)]))
"""
GONE = """
starter._fork = lambda *_: 2**22 + 1  # more than any pid
try:
    starter.start("sleeper", "sleeper", [], {}, folder)
except OSError as error:
    print(json.dumps(str(error)))
"""


def ask(folder: Path, script: str, before: str = "") -> object:
    """What the script prints, which has a ``starter``; ``before`` runs before that is made."""
    (folder / "reporter.py").write_text(REPORTER)
    (folder / "sleeper.py").write_text("import signal\nsignal.pause()\n")
    command = [sys.executable, "-c", ASK.replace("BEFORE", before) + script, str(folder)]
    environment = {"PYTHONPATH": f"{ROOT}:{folder}"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=600, env=environment, stdin=subprocess.PIPE
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("server", ["", KILLED], ids=["forked", "fork server killed"])
def test_a_process_has_what_it_was_given_and_is_a_child_of_who_asked(server: str, tmp_path: Path):
    script = server + STARTED.replace('{"A": "1"}', f'{{"A": "1", "PYTHONPATH": {str(tmp_path)!r}}}')
    state = ask(tmp_path, script)
    assert isinstance(state, dict)
    assert state["argv"][1:] == ["b c"]
    assert state["cwd"] == str(tmp_path)
    assert (state["environment"], state["path"], state["stdin"]) == ("1", False, "")
    assert state["parent"] == state["ours"]
    assert state["session"]
    assert (state["status"], state["again"]) == (7, 7)
    assert state["name"] == "reporter" or server


def test_a_process_is_signalled_and_waited_for(tmp_path: Path):
    assert ask(tmp_path, SIGNALLED) == [None, -15]


def test_the_fork_server_ends_with_who_made_it(tmp_path: Path):
    server = ask(tmp_path, "import psutil\nprint(json.dumps([p.pid for p in psutil.Process().children()]))")
    assert isinstance(server, list)
    (pid,) = server
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(600)


def test_a_fork_that_fails_ends_the_fork_server_and_the_process_is_started_without(tmp_path: Path):
    assert ask(tmp_path, NOT_FORKED, FAILING_FORK) == -9


def test_an_answer_that_comes_too_late_is_not_that_to_the_next_order_and_its_process_ends(tmp_path: Path):
    assert ask(tmp_path, LATE, IMPATIENT) == [7, 0]


def test_a_process_that_somebody_else_has_waited_for_already_is_an_oserror(tmp_path: Path):
    assert ask(tmp_path, GONE) == "the process sleeper has ended at once"
