"""``python -m bench.serving.slow_clients``: what others notice of clients that send half a request or read no answer.

All come from one address. Who is closed out opens a new connection at once. Beside them, /livez and /classify are asked
for, each time on a new connection.
"""

import argparse
import asyncio
import contextlib
import resource
import sys
import time

import httpx

from bench.serving.servers import Running, gauntlet, running, workplace

CLASSIFIER, GENERATOR = "fashion-mnist-standard", "mnist-vae"
HALF = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Never: "
BODY = b'{"model": "%s", "n": 256, "format": "array"}' % GENERATOR.encode()
UNREAD = (
    b"POST /generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    % (len(BODY), BODY)
)
ASKED = {"model": CLASSIFIER, "images": [[[0.0] * 28] * 28]}
LONGEST = 1.0  # seconds within which others are answered
GROWTH = 1.05  # of memory, afterwards


async def hold(port: int, sent: bytes) -> None:
    """Open, send, read nothing, and begin again whenever the server ends the connection."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(sent)
            while not (reader.at_eof() or reader.exception() or writer.is_closing()):
                await asyncio.sleep(0.5)
            writer.transport.abort()
        await asyncio.sleep(0.1)


async def longest(port: int, seconds: float) -> float:
    """Of the answers that somebody else gets meanwhile."""
    found, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        for method, path, content in (("GET", "/livez", None), ("POST", "/classify", ASKED)):
            begin = time.monotonic()
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                (await client.request(method, path, json=content)).raise_for_status()
            found = max(found, time.monotonic() - begin)
        await asyncio.sleep(0.05)
    return found


async def beside(port: int, half_open: int, unread: int, seconds: float) -> float:
    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(hold(port, HALF)) for _ in range(half_open)]
        clients += [group.create_task(hold(port, UNREAD)) for _ in range(unread)]
        await asyncio.sleep(2)
        worst = await longest(port, seconds)
        for client in clients:
            client.cancel()
    return worst


def held(server: Running) -> float:
    """MB of PSS of all its processes."""
    return sum(process.memory_full_info().pss for process in server.tree()) / 1e6


def main() -> None:
    """Print both figures; status 1 where one is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving.slow_clients", description=__doc__)
    parser.add_argument("--half-open", type=int, default=2000)
    parser.add_argument("--unread", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with workplace() as folder, running(gauntlet(folder, [CLASSIFIER, GENERATOR]), folder / "log") as server:
        while (
            httpx.post(f"http://127.0.0.1:{server.port}/classify", json=ASKED, timeout=60).status_code != httpx.codes.OK
        ):
            time.sleep(0.1)
        idle = asyncio.run(beside(server.port, 0, 8, 5))  # what buffers keep for good
        before = held(server)
        worst = asyncio.run(beside(server.port, options.half_open, options.unread, options.seconds))
        time.sleep(5)
        after = held(server)
    print(f"longest answer to others: {worst:.2f} s (without them {idle:.2f} s), at most {LONGEST:g}")
    print(f"memory: {before:.0f} MB before, {after:.0f} MB after, at most {GROWTH:g} times")
    sys.exit(worst > LONGEST or after > GROWTH * before)


if __name__ == "__main__":
    main()
