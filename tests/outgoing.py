"""``python -m tests.outgoing LOG COMMAND...``: run a command where nothing can leave, and log what was meant to.

The log gets a line for each packet: the name that was looked up, or the address and port of whatever else it was. The
command runs in network and mount namespaces of its own, whose every packet goes through one interface that is watched.
"""

import ipaddress
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

OURS = ("ORT_DISABLE_TELEMETRY", "BENTOML_DO_NOT_TRACK", "XDG_CACHE_HOME")
"""Variables that say whether and where events are kept."""
CI = (
    *("CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "TRAVIS", "JENKINS_URL", "CODEBUILD_BUILD_ID"),
    *("BUILDKITE", "TEAMCITY_VERSION", "APPVEYOR", "BITBUCKET_BUILD_NUMBER"),
)
"""Variables by which ONNX Runtime recognises continuous integration, where it sends no events unasked."""
TOOLS = ("unshare", "ip", "mount")
SPACES = ["unshare", "--net", "--mount", "--map-root-user", "--kill-child", "--fork"]
ETH_P_ALL = 3
TCP, UDP = 6, 17
SYN_ALONE, TCP_FLAGS = 0x02, 0x17  # who begins a connection, among the bits SYN, ACK, RST and FIN
DNS = 53
FILES = {
    "/etc/resolv.conf": "nameserver 192.0.2.53\noptions timeout:1 attempts:1\n",
    "/etc/nsswitch.conf": "hosts: files dns\n",
}


def missing() -> str:
    """Why this machine cannot, if it cannot."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} not installed; on Debian: apt-get install iproute2 util-linux mount"
    tried = subprocess.run([*SPACES, "true"], capture_output=True, text=True, check=False)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


def command(log: Path, *words: str) -> list[str]:
    """The command line that watches this one."""
    return [*SPACES, sys.executable, "-m", "tests.outgoing", str(log), *words]


def environment(home: Path) -> dict[str, str]:
    """This process's own with another home, where nothing has switched telemetry off."""
    inherited = {name: value for name, value in os.environ.items() if name not in (*OURS, *CI)}
    return {**inherited, "HOME": str(home)}


def destination(packet: bytes) -> str | None:
    """Where an IP packet is going that begins something elsewhere; None for any other."""
    if packet[0] >> 4 == 4:
        start, protocol, address = (packet[0] & 15) * 4, packet[9], ipaddress.ip_address(packet[16:20])
    else:
        start, protocol, address = 40, packet[6], ipaddress.ip_address(packet[24:40])
    if address.is_loopback or address.is_multicast or protocol not in (TCP, UDP):
        return None
    (port,) = struct.unpack_from("!H", packet, start + 2)
    if protocol == UDP and port == DNS:
        return ".".join(labels(packet[start + 8 + 12 :]))
    begins = protocol == UDP or packet[start + 13] & TCP_FLAGS == SYN_ALONE
    return f"{address} port {port}" if begins else None


def labels(question: bytes) -> Iterator[str]:
    """Of the name that a DNS query asks for."""
    while question and (length := question[0]):
        yield question[1 : 1 + length].decode(errors="replace")
        question = question[1 + length :]


def watch(packets: socket.socket, log: Path) -> None:
    with log.open("w", buffering=1) as file:
        while True:
            packet, (_, _, kind, *_) = packets.recvfrom(65535)
            if kind != socket.PACKET_OUTGOING and (found := destination(packet)):  # each is seen leaving and coming
                file.write(f"{found}\n")


def main() -> int:
    log, *words = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        for path, text in FILES.items():
            (ours := Path(folder) / Path(path).name).write_text(text)
            subprocess.run(["mount", "--bind", ours, path], check=True)
        for way in (
            ["link", "set", "lo", "up"],
            *(["route", "add", "local", net, "dev", "lo"] for net in ("0.0.0.0/0", "::/0")),
        ):
            subprocess.run(["ip", *way], check=True)
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        packets.bind(("lo", ETH_P_ALL))
        threading.Thread(target=watch, args=(packets, Path(log)), daemon=True).start()
        return subprocess.run(words, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
