"""``python -m bench.serving.slow_clients``: latency of other clients while some send half a request or read no answer.

All slow clients have one address, and reconnect at once when the server closes a connection. Meanwhile /livez and
/classify are requested, each time on a new connection.
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
LONGEST = 1.0  # limit in seconds of the answers to other clients
GROWTH = 1.05  # limit of the memory afterwards, relative to before


async def hold(port: int, sent: bytes) -> None:
    """Open a connection, send, read nothing, and reconnect whenever the server closes it."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(sent)
            while not (reader.at_eof() or reader.exception() or writer.is_closing()):
                await asyncio.sleep(0.5)
            writer.transport.abort()
        await asyncio.sleep(0.1)


async def longest(port: int, seconds: float) -> float:
    """Return the longest time in seconds of an answer to another client, sending requests for ``seconds``."""
    worst, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        for method, path, content in (("GET", "/livez", None), ("POST", "/classify", ASKED)):
            begin = time.monotonic()
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                (await client.request(method, path, json=content)).raise_for_status()
            worst = max(worst, time.monotonic() - begin)
        await asyncio.sleep(0.05)
    return worst


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
    """Return the proportional set size (PSS) of all its processes, in MB."""
    return sum(process.memory_full_info().pss for process in server.tree()) / 1e6


def main() -> None:
    """Print both figures; exit status 1 if one exceeds its limit."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving.slow_clients", description=__doc__)
    parser.add_argument("--half-open", type=int, default=2000)
    parser.add_argument("--unread", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    with workplace() as folder, running(gauntlet(folder, [CLASSIFIER, GENERATOR]), folder / "log") as server:
        while (
            httpx.post(f"http://127.0.0.1:{server.port}/classify", json=ASKED, timeout=60).status_code != httpx.codes.OK
        ):
            time.sleep(0.1)
        idle = asyncio.run(beside(server.port, 0, 8, 5))  # a warm-up: fills the buffers that stay allocated
        before = held(server)
        worst = asyncio.run(beside(server.port, options.half_open, options.unread, options.seconds))
        time.sleep(5)
        after = held(server)
    print(f"longest answer to others: {worst:.2f} s (without them {idle:.2f} s), at most {LONGEST:g}")
    print(f"memory: {before:.0f} MB before, {after:.0f} MB after, at most {GROWTH:g} times")
    sys.exit(worst > LONGEST or after > GROWTH * before)


if __name__ == "__main__":
    main()
