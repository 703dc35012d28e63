"""``python -m bench.serving.mixed``: valid and invalid requests at once. No wrong answer, no 5xx, no memory leak."""

import argparse
import base64
import functools
import itertools
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from bench.serving import load
from bench.serving.asks import Asks
from bench.serving.load import Answer, Ask, Tally, http
from bench.serving.servers import Running, gauntlet, running, workplace
from service.schemas.main_calls import Envelope

MODELS = ["fashion-mnist-standard", "fashion-mnist-lipschitz"]
GENERATOR = "fashion-mnist-gan"
GROWTH = 1.05  # limit of the memory afterwards, relative to before


def good(asks: Asks) -> list[Ask]:
    """Return valid requests: PNGs alone and in batches, float lists, binary tensors."""
    images = [asks.x[i].tolist() for i in range(4)]
    body = json.dumps({"model": asks.model.name, "images": images}).encode()
    return [*asks.png(1)[:64], *asks.png(7)[:16], *asks.png(64)[:2], *asks.oip(16)[:8], floats(asks, body)]


def floats(asks: Asks, body: bytes) -> Ask:
    def right(answer: Answer) -> bool:
        if answer.status != 200:
            return False
        return [one["label"] for one in json.loads(answer.body)["predictions"]] == asks.labels[:4]

    return Ask(http("POST", "/classify", body), right, 4)


def generated(answer: Answer) -> bool:
    return answer.status == 200 and len(json.loads(answer.body)["images"]) == 4


def refused(status: int, code: str, answer: Answer) -> bool:
    """Whether the answer is an error with this status and code."""
    return answer.status == status and Envelope.model_validate_json(answer.body).error.code == code


def bad(asks: Asks) -> list[Ask]:
    """Return one invalid request of each common kind."""
    name, png = asks.model.name, asks.pngs[0]

    def ask(
        status: int, code: str, body: Mapping[str, Any] | bytes, path: str = "/classify", method: str = "POST"
    ) -> Ask:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Ask(http(method, path, content), functools.partial(refused, status, code))

    cut = base64.b64encode(base64.b64decode(png)[:60]).decode()
    return [
        ask(400, "malformed", b'{"model": '),
        ask(422, "invalid", {"model": name, "images": [png], "unknown": 1}),
        ask(422, "invalid", {"model": name, "images": []}),
        ask(422, "invalid", {"model": name, "images": ["AAAA"]}),
        ask(422, "invalid", {"model": name, "images": [cut]}),
        ask(422, "invalid", {"model": name, "images": ["no base64!"]}),
        ask(422, "invalid", {"model": name, "images": [[[2.0] * 28] * 28]}),
        ask(422, "invalid", {"model": name, "images": [[[0.5] * 27] * 28]}),
        ask(404, "unknown_model", {"model": "no-such-model", "images": [png]}),
        ask(422, "wrong_kind", {"model": GENERATOR, "images": [png]}),
        ask(404, "not_found", {}, "/no-such-path"),
        ask(405, "method_not_allowed", {}, "/classify", "DELETE"),
    ]


def mixture() -> list[Ask]:
    """Return valid requests for two models and a generator, with an invalid one after every two."""
    every = [Asks(name) for name in MODELS]
    body = json.dumps({"model": GENERATOR, "n": 4}).encode()
    draw = Ask(http("POST", "/generate", body), generated, 4)
    fine = [ask for both in zip(*(good(asks) for asks in every), strict=True) for ask in both] + [draw] * 8
    wrong = itertools.cycle([ask for asks in every for ask in bad(asks)])
    return [ask for i in range(0, len(fine), 2) for ask in (*fine[i : i + 2], next(wrong))]


def told(tally: Tally) -> str:
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(tally.statuses.items()))
    return f"{tally.requests} requests in {tally.seconds:.1f} s ({statuses}), p99 {1e3 * tally.quantile(0.99):.0f} ms"


def faults(tally: Tally) -> list[str]:
    """List the failures of a run."""
    shown = [f"status {answer.status}: {answer.body[:200]!r}" for answer in tally.wrong[:5]]
    crashed = sum(count for status, count in tally.statuses.items() if status >= 500)
    return [
        *([f"{len(tally.wrong)} wrong answers, as {shown}"] if shown else []),
        *([f"{crashed} x 5xx"] if crashed else []),
    ]


def grown(server: Running, before: int) -> str:
    after = server.memory()
    return f"memory {before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB after: {after / before - 1:+.1%}"


def main() -> None:
    """Run the requests; exit status 1 for a wrong answer, a 5xx, or too much memory growth."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving.mixed", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    asks = mixture()
    with workplace() as folder, running(gauntlet(folder, [*MODELS, GENERATOR]), folder / "log") as server:
        load.run(server.port, asks, options.connections, count=options.requests)  # a warm-up, for memory
        before = server.memory()
        tally = load.run(server.port, asks, options.connections, count=options.requests)
        found = faults(tally)
        if server.memory() > GROWTH * before:
            found.append(f"memory grew by more than {GROWTH - 1:.0%}")
        print(f"load before the start {os.getloadavg()[0]:.1f}\n{told(tally)}\n{grown(server, before)}")
    print("; ".join(found) or "as it should be")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
