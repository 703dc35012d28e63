"""What injected code would try fails inside a child, and can be done outside of one: so each test can fail."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from gauntlet.errors import ModelFailed, Unconfined
from gauntlet.sandbox import confinement, syscall_filter
from gauntlet.sandbox import fork_server as asker
from gauntlet.sandbox.fork_server import Child, ForkServer, Limits, Work
from tests.gauntlet.sandbox import probes
from tests.gauntlet.sandbox.probes import PROBES, SECRET, Place

confined = pytest.mark.skipif(bool(confinement.missing()), reason="this kernel cannot confine a process")

VICTIM = f"""
import ctypes, sys
secret = ctypes.create_string_buffer({SECRET!r})
ctypes.CDLL(None).prctl({probes.PR_SET_PTRACER}, ctypes.c_ulong(-1))  # Yama lets its siblings read it
print(ctypes.addressof(secret), flush=True)
sys.stdin.read()
"""
OLDER_KERNEL = """
import pathlib, sys
from gauntlet.sandbox import confinement
abi, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
confinement.landlock_abi = lambda: abi
(folder / "own").mkdir()
confinement.confine(str(folder / "own"))
(folder / "own" / "file").write_text("written")
(folder / "own" / "file").unlink()
for attempt in ((folder / "secret").read_text, lambda: (folder / "own" / "file").symlink_to("/etc")):
    try:
        attempt()
    except PermissionError:
        print("refused")
"""
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    """Its children do the work ``probes``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asker, "SERVER_MODULE", probes.__name__)
        made = ForkServer()
        yield made
        made.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A service to attack: a process with secrets in memory and environment, sockets that listen, files."""
    folder = tmp_path_factory.mktemp("service")
    names = {name: str(folder / name) for name in ("database", "keys", "source", "socket")}
    for name in ("database", "keys", "source"):
        Path(names[name]).write_text(name)
    command = [sys.executable, "-c", VICTIM]
    environment = {**os.environ, "GAUNTLET_API_KEYS": SECRET.decode()}
    with (
        socket.create_server(("127.0.0.1", 0)) as service,
        socket.socket(socket.AF_UNIX) as compute,
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as victim,
    ):
        compute.bind(names["socket"])
        compute.listen()
        assert victim.stdout is not None
        address = int(victim.stdout.readline())
        own = {"own source": confinement.__file__, "folder": str(folder)}
        yield {**names, **own, "pid": victim.pid, "address": address, "port": service.getsockname()[1]}
        victim.kill()


@pytest.fixture(scope="module")
def outside(place: Place) -> dict[str, str]:
    """What came of each probe in a process that nothing confines."""
    command = [sys.executable, "-m", probes.__name__, json.dumps(place)]
    found: dict[str, str] = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return found


def child_of(fork_server: ForkServer) -> Child:
    return fork_server.child(cast("Work", "probes"))


def ask(child: Child, **message: Any) -> Any:
    reply = child.ask(message, seconds=60)[0]
    assert "outcome" in reply, reply
    return reply["outcome"]


@confined
@pytest.mark.parametrize("name", PROBES)
def test_injected_code_is_refused_what_any_other_process_can_do(
    name: str, fork_server: ForkServer, place: Place, outside: dict[str, str]
):
    child = child_of(fork_server)
    assert ask(child, ask="probe", name=name, at=place) == "refused"
    child.close()
    assert outside[name] == "done"


@confined
def test_a_child_cannot_write_to_a_file_that_it_got_for_reading(fork_server: ForkServer, tmp_path: Path):
    (tmp_path / "graph").write_bytes(b"graph")
    with (tmp_path / "graph").open("rb") as file:
        child = fork_server.child(cast("Work", "probes"), [file])
        assert ask(child, ask="write") == ["refused"] * 3
        child.close()
    with (tmp_path / "graph").open("r+b") as file:
        child = fork_server.child(cast("Work", "probes"), [file])
        assert ask(child, ask="write") == ["done", "refused", "done"]
        child.close()


@confined
@pytest.mark.parametrize("abi", range(1, 8))
def test_older_kernels_confine_too(abi: int, tmp_path: Path):
    if abi > confinement.landlock_abi():
        pytest.skip("this kernel is older still")
    (tmp_path / "secret").write_text("secret")
    command = [sys.executable, "-c", OLDER_KERNEL, str(abi), str(tmp_path)]
    assert subprocess.run(command, check=True, capture_output=True, timeout=60).stdout == b"refused\nrefused\n"


@confined
def test_a_child_still_has_what_its_work_needs(fork_server: ForkServer):
    child = child_of(fork_server)
    assert ask(child, ask="do", name="threads") == 8
    assert ask(child, ask="do", name="import late") == "wave"
    assert len(ask(child, ask="do", name="opened")) == 4  # standard streams and its line
    assert ask(child, ask="do", name="hard limit of processor time") > 0
    child.close()


@confined
def test_a_child_does_not_outlive_its_model_nor_who_started_it(fork_server: ForkServer):
    for end in (Child.close, lambda _: psutil.Process(fork_server.pid).kill()):
        child = child_of(fork_server)
        ask(child, ask="do", name="cling")
        mine = psutil.Process(fork_server.pid).children()
        assert len(mine) == 1
        end(child)
        _, alive = psutil.wait_procs(mine, 20)
        assert not alive
        child.close()


def test_a_child_computes_nothing_while_nobody_asks_it(fork_server: ForkServer):
    child = child_of(fork_server)
    ask(child, ask="do", name="burn")
    (mine,) = psutil.Process(fork_server.pid).children()
    before = wait_until_stopped(mine)
    time.sleep(0.5)
    assert mine.cpu_times().user == before
    while wait_until_stopped(mine) == before:  # it goes on whenever it is asked
        assert ask(child, ask="do", name="threads") == 8
    child.close()


def wait_until_stopped(process: psutil.Process) -> float:
    """Seconds that it has computed, once it does no more."""
    deadline = time.monotonic() + 20
    while process.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return float(process.cpu_times().user)


@confined
def test_a_crash_loop_leaves_nothing_behind(fork_server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    child_of(fork_server).close()
    here = psutil.Process()
    before = here.num_fds(), psutil.Process(fork_server.pid).num_fds()
    for number in range(20):
        name, cause = (("abort", "SIGABRT"), ("crash", "SIGSEGV"))[number % 2]
        with pytest.raises(ModelFailed, match=cause):
            ask(child_of(fork_server), ask="do", name=name)
    assert (here.num_fds(), psutil.Process(fork_server.pid).num_fds()) == before
    assert list(tmp_path.iterdir()) == []
    child = child_of(fork_server)
    assert ask(child, ask="do", name="threads") == 8
    child.close()
    states = [process.status() for process in psutil.Process(fork_server.pid).children()]
    assert set(states) <= {psutil.STATUS_ZOMBIE}
    assert len(states) <= 1  # until the next child is asked for


def test_folders_in_each_other_are_removed(fork_server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    child = child_of(fork_server)
    ask(child, ask="do", name="bury")
    child.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_child_prints_has_an_end(fork_server: ForkServer, caplog: pytest.LogCaptureFixture):
    child = child_of(fork_server)
    assert ask(child, ask="do", name="shout") == asker.MAX_OUTPUT
    assert os.fstat(child._printed.fileno()).st_size == asker.MAX_OUTPUT
    with pytest.raises(ModelFailed, match="SIGABRT"):
        ask(child, ask="do", name="abort")
    (record,) = caplog.records
    assert len(record.getMessage()) < asker.LOGGED_OUTPUT + 200


def test_what_is_missing_is_logged_once_and_may_be_demanded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(confinement, "missing", lambda: ["Landlock: it can read files"])
    made = ForkServer(Limits(require_confinement=True))
    (record,) = caplog.records
    assert "without Landlock" in record.getMessage()
    with pytest.raises(Unconfined, match="without Landlock"):
        made.child("files")
    assert made.pid is None
    lenient = ForkServer()
    child = lenient.child("files")
    assert child.alive
    child.close()
    lenient.close()


def test_what_the_kernel_lacks_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(confinement, "landlock_abi", lambda: 0)
    monkeypatch.setattr(syscall_filter, "supported", lambda _: False)
    landlock, seccomp = confinement.missing()
    assert landlock.startswith("Landlock")
    assert seccomp.startswith("seccomp")


def verdict(machine: str, call: str | int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter for process 7 answers to a call: its program, interpreted here."""
    every = {}
    for table in (*syscall_filter.REFUSED.values(), syscall_filter.CONDITIONAL, "read 0 63"):
        every |= syscall_filter.numbers(table, machine)
    memory = {0: every[call] if isinstance(call, str) else call}
    memory[4] = syscall_filter.MACHINES[machine][0] if architecture is None else architecture
    memory |= {16 + 8 * place: value for place, value in enumerate(arguments)}
    lines, at, value = syscall_filter.program(machine, 7), 0, 0
    while True:
        code, operand, yes, no = lines[at]
        at += 1
        match code:
            case syscall_filter.LOAD:
                value = memory.get(operand, 0)
            case syscall_filter.AND:
                value &= operand
            case syscall_filter.RETURN:
                return operand
            case syscall_filter.EQUAL:
                at += yes if value == operand else no
            case syscall_filter.AT_LEAST:
                at += yes if value >= operand else no
            case syscall_filter.ANY_BIT:
                at += yes if value & operand else no


PASSED, REFUSED, ABSENT = syscall_filter.ALLOW, syscall_filter.FAIL | 1, syscall_filter.FAIL | 38
PTHREAD = 0x3D0F00  # what glibc starts a thread with


@pytest.mark.parametrize("machine", syscall_filter.MACHINES)
@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("read", (), PASSED),
        ("socket", (), REFUSED),
        ("userfaultfd", (), REFUSED),
        ("clone3", (), ABSENT),
        ("clone", (PTHREAD,), PASSED),
        ("clone", (0x11,), REFUSED),  # fork
        ("clone", (0x4111,), REFUSED),  # posix_spawn: CLONE_VM | CLONE_VFORK
        ("clone", (PTHREAD | 0x40000000,), REFUSED),  # CLONE_NEWNET
        ("kill", (7, 9), PASSED),
        ("kill", (8, 9), REFUSED),
        ("kill", (0, 9), REFUSED),  # its whole group
        ("tgkill", (7, 8, 6), PASSED),
        ("tgkill", (8, 8, 6), REFUSED),
        ("prlimit64", (0,), PASSED),
        ("prlimit64", (9,), REFUSED),
        ("sched_setaffinity", (0,), PASSED),
        ("sched_setaffinity", (9,), REFUSED),
        ("fcntl", (1, 3), PASSED),  # F_GETFL
        ("fcntl", (1, 8), REFUSED),  # F_SETOWN
        ("ioctl", (1, 0x5401), PASSED),  # TCGETS
        ("ioctl", (1, 0x5412), REFUSED),  # TIOCSTI
        ("prctl", (15,), PASSED),  # PR_SET_NAME
        ("prctl", (1,), REFUSED),  # PR_SET_PDEATHSIG
    ],
)
def test_each_machine_refuses_the_same(machine: str, call: str, arguments: tuple[int, ...], expected: int):
    assert verdict(machine, call, *arguments) == expected


def test_calls_of_another_architecture_end_the_process_or_are_refused():
    assert verdict("x86_64", "read", architecture=0x40000003) == syscall_filter.KILL  # i386
    assert verdict("aarch64", "read", architecture=0x40000028) == syscall_filter.KILL  # 32-bit ARM
    assert verdict("x86_64", 0x40000000 + 41) == REFUSED  # socket by its x32 number


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_kernel_headers(machine: str):
    if not HEADERS[machine].exists():
        pytest.skip("no kernel headers here")
    listed = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", HEADERS[machine].read_text())
    known = {name: int(number) for name, number in listed}
    seen = {}
    for table in (*syscall_filter.REFUSED.values(), syscall_filter.CONDITIONAL):
        seen |= syscall_filter.numbers(table, machine)
    assert len(set(seen.values())) == len(seen)
    assert {name: number for name, number in seen.items() if known.get(name, number) != number} == {}
