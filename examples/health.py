"""Check the health of a service: whether it is ready, its models, its report queue, and the latency of /classify.

python examples/health.py
"""

import argparse
import itertools
import statistics
import time

from gauntlet_client import Client

parser = argparse.ArgumentParser()
parser.add_argument("--url", default="http://127.0.0.1:3000")
parser.add_argument("--key")
parser.add_argument("--requests", type=int, default=50)
options = parser.parse_args()

with Client(options.url, key=options.key) as gauntlet:
    problems = gauntlet.not_ready()
    print("ready" if not problems else "NOT READY: " + "; ".join(f"{part}: {why}" for part, why in problems.items()))

    classifiers = [model for model in gauntlet.models() if model.kind == "classifier"]
    for model in classifiers:
        gradients = "" if model.gradients == "verified" else f", gradients: {model.gradients}"
        print(f"serves {model.name} {model.files['model.onnx'][:12]}{gradients}")

    for status in ("queued", "running", "failed"):
        reports = list(itertools.islice(gauntlet.reports(status), 100))
        oldest = f", the oldest from {reports[-1].created_at}" if reports else ""
        print(f"reports {status}: {len(reports)}{oldest}")

    _, height, width = classifiers[0].input_shape
    image = [[[0.5] * width] * height] * classifiers[0].input_shape[0]
    seconds = []
    for _ in range(options.requests):
        start = time.perf_counter()
        gauntlet.classify(classifiers[0].name, [image])
        seconds.append(time.perf_counter() - start)
    print(
        f"classify, one image: median {1000 * statistics.median(seconds):.1f} ms, slowest {1000 * max(seconds):.1f} ms"
    )
