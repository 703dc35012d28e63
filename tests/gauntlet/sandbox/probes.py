"""What code that got into a child would try: a work that only these tests give to one.

``python -m tests.gauntlet.sandbox.probes FD`` is a fork server whose children can do it; ``... JSON`` tries all probes
in a process that nothing confines, and prints what came of each.
"""

import ctypes
import importlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gauntlet.sandbox import fork_server_main
from gauntlet.sandbox.child_loop import serve

Place = dict[str, Any]  # what there is to reach: pid, address, port, and paths
SECRET = b"a secret of another process"
DEEP = 3000  # folders in each other: more than Python can follow
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PTRACE_SEIZE, PR_SET_PTRACER = 1, 0x4206, 0x59616D61


class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def call(name: str, *arguments: object) -> int:
    result = int(getattr(LIBC, name)(*(ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read_environment(at: Place) -> None:
    assert SECRET in Path(f"/proc/{at['pid']}/environ").read_bytes()


def read_own_start(_: Place) -> None:
    Path("/proc/self/environ").read_bytes()


def read_memory(at: Place) -> None:
    found = ctypes.create_string_buffer(len(SECRET))
    here, there = Part(ctypes.addressof(found), len(SECRET)), Part(at["address"], len(SECRET))
    call("process_vm_readv", at["pid"], ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    assert found.raw == SECRET


def open_memory(at: Place) -> None:
    with Path(f"/proc/{at['pid']}/mem").open("rb", 0) as memory:
        memory.seek(at["address"])
        assert memory.read(len(SECRET)) == SECRET


def connect_by_name(at: Place) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(at["socket"])


def listen(_: Place) -> None:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()


def fork(_: Place) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def outlive_the_server(_: Place) -> None:
    call("prctl", PR_SET_PDEATHSIG, 0, 0, 0, 0)


PROBES: dict[str, Callable[[Place], object]] = {
    "read the environment of another process": read_environment,
    "read its own environment at its start": read_own_start,
    "read the job database": lambda at: Path(at["database"]).read_bytes(),
    "empty the job database": lambda at: os.truncate(at["database"], 0),
    "lock everybody out of the job database": lambda at: Path(at["database"]).chmod(0o600),
    "read the keys file": lambda at: Path(at["keys"]).read_bytes(),
    "write to the source of the service": lambda at: Path(at["source"]).open("ab").close(),
    "write to the source of its own package": lambda at: Path(at["own source"]).open("ab").close(),
    "write beside its folder": lambda at: Path(at["folder"], "left").write_text("by a child"),
    "list the folder of another child": lambda at: list(Path(at["folder"]).iterdir()),
    "connect to the service": lambda at: socket.create_connection(("127.0.0.1", at["port"]), 10).close(),
    "connect to the compute process": connect_by_name,
    "listen": listen,
    "make a pair of sockets": lambda _: [end.close() for end in socket.socketpair()],
    "fork": fork,
    "run a program": lambda _: subprocess.run(["/bin/true"], check=True),
    "read the memory of another process": read_memory,
    "open the memory of another process": open_memory,
    "trace another process": lambda at: call("ptrace", PTRACE_SEIZE, at["pid"], 0, 0),
    "signal another process": lambda at: os.kill(at["pid"], signal.SIGCONT),
    "signal another process by its descriptor": lambda at: signal.pidfd_send_signal(os.pidfd_open(at["pid"]), 0),
    "change the limits of another process": lambda at: resource.prlimit(at["pid"], resource.RLIMIT_CORE, (0, 0)),
    "slow another process down": lambda at: os.setpriority(os.PRIO_PROCESS, at["pid"], 19),
    "move another process to one core": lambda at: os.sched_setaffinity(at["pid"], os.sched_getaffinity(at["pid"])),
    "take memory that no limit counts": lambda _: os.close(os.memfd_create("probe")),
    "share memory with others": lambda _: call("shmctl", call("shmget", 0, 4096, 0o600), 0, None),
    "outlive who started it": outlive_the_server,
}


def outcome(name: str, at: Place) -> str:
    """``done`` or ``refused``. Any other error is a fault of the probe, and raised."""
    try:
        PROBES[name](at)
    except PermissionError:
        return "refused"
    return "done"


def cling() -> None:
    """Do what a process can to live on."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU):
        signal.signal(number, signal.SIG_IGN)
    for attempt in (fork, outlive_the_server):
        try:
            attempt({})
        except PermissionError:
            continue
        raise AssertionError(attempt)


def bury() -> None:
    """Leave folders in each other."""
    os.chdir(tempfile.gettempdir())
    for _ in range(DEEP):
        Path("d").mkdir()
        os.chdir("d")


def burn() -> None:
    """Go on computing after the answer."""

    def spin() -> None:
        while True:
            pass

    threading.Thread(target=spin, daemon=True).start()


def threads() -> int:
    """How many of eight ran."""
    ran: list[int] = []
    started = [threading.Thread(target=ran.append, args=(n,)) for n in range(8)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return len(ran)


def opened() -> list[int]:
    """The descriptors of this process."""
    found = []
    for descriptor in range(resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        found.append(descriptor)
    return found


DEEDS: dict[str, Callable[[], object]] = {
    "cling": cling,
    "bury": bury,
    "burn": burn,
    "threads": threads,
    "opened": opened,
    "shout": lambda: os.write(1, b"x" * 10_000_000),
    "hard limit of processor time": lambda: resource.getrlimit(resource.RLIMIT_CPU)[1],
    "abort": os.abort,
    "crash": lambda: ctypes.string_at(0),
    "import late": lambda: importlib.import_module("wave").__name__,
}


def write_to(files: list[int]) -> list[str]:
    """What comes of writing to files that it got open: at once, by opening them again, and by making them shorter."""
    found = []
    for work in (
        lambda file: os.write(file, b"x"),
        lambda file: os.close(os.open(f"/proc/self/fd/{file}", os.O_RDWR)),
        lambda file: os.ftruncate(file, 0),
    ):
        for file in files:
            try:
                work(file)
            except OSError:
                found.append("refused")
            else:
                found.append("done")
    return found


def run(line: socket.socket, _: int, files: list[int]) -> None:
    answers = {
        "write": lambda _, __: ({"outcome": write_to(files)}, ()),
        "probe": lambda message, _: ({"outcome": outcome(message["name"], message["at"])}, ()),
        "do": lambda message, _: ({"outcome": DEEDS[message["name"]]()}, ()),
    }
    serve(line, answers)


if __name__ == "__main__":
    if sys.argv[1].isdigit():
        fork_server_main.MODULES["probes"] = "tests.gauntlet.sandbox.probes"
        fork_server_main.main()
    else:
        print(json.dumps({probe: outcome(probe, json.loads(sys.argv[1])) for probe in PROBES}))
