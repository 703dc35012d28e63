"""``python -m bench.verification [KIND ...]``: decide properties of the kinds used in the competition of 2021.

Trains small networks on MNIST and CIFAR-10 (under GAUNTLET_DATA, by default data/), writes a robustness property for
the first test images that each classifies correctly, and runs ``gauntlet verify`` on them. Every witness is checked
again with ONNX Runtime, and for every proved property counterexamples are searched with another seed and other starts
than before the proof: a wrong verdict ends the run with status 1. Prints Markdown.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor

from bench.verification.networks import KINDS, examples, save, train
from gauntlet.bounds import onnx_reader
from gauntlet.bounds.output_property import Goal
from gauntlet.bounds.region import Region
from gauntlet.bounds.search import find
from gauntlet.verification import properties
from gauntlet.verification.properties import Verdict

TRAINING_IMAGES = 30_000
CLASSES = 10
OTHER_SEED, OTHER_STARTS, OTHER_STEPS = 7, 20, 100  # of the search for counterexamples to proved properties


def robustness(x: Tensor, label: int, eps: float) -> str:
    """Return the VNN-LIB property: some image of [0, 1] within Linf eps of x (flat) is not classified as the label."""
    lines = [f"(declare-const X_{i} Real)" for i in range(len(x))]
    lines += [f"(declare-const Y_{i} Real)" for i in range(CLASSES)]
    for i, value in enumerate(x.tolist()):
        lines.append(f"(assert (>= X_{i} {max(0.0, value - eps):.9f}))")
        lines.append(f"(assert (<= X_{i} {min(1.0, value + eps):.9f}))")
    others = [f"(and (>= Y_{j} Y_{label}))" for j in range(CLASSES) if j != label]
    return "\n".join([*lines, f"(assert (or {' '.join(others)}))\n"])


def wrong(network: Path, x: Tensor, label: int, eps: float, verdict: Verdict) -> str | None:
    """Return why the verdict is wrong, or None if no error was found."""
    session = ort.InferenceSession(network, providers=["CPUExecutionProvider"])
    name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape

    def other_class(points: Tensor) -> bool:
        for point in points:
            y = session.run(None, {name: point.float().numpy().reshape(shape)})[0].reshape(-1)
            if y[label] <= np.delete(y, label).max():
                return True
        return False

    if verdict.witness is not None:
        witness = torch.from_numpy(verdict.witness[0])
        inside = bool(((witness - x).abs() <= eps + 1e-6).all())
        return None if inside and other_class(witness[None]) else "the witness is no counterexample"
    if verdict.answer != "unsat":
        return None
    read = onnx_reader.read(network)
    region = Region.ball(x.view(1, *read.input_shape), "linf", eps)
    goal = Goal.other_class(label, CLASSES, read.output_shape, 0.0)
    effort = {"starts": OTHER_STARTS, "steps": OTHER_STEPS, "seed": OTHER_SEED}
    found = find(read, region, goal, other_class, **effort, deadline=np.inf)
    return "unsat, but there is a counterexample" if found else None


def decide(kind: str, network: Path, n: int, seconds: float, eps: float) -> tuple[Counter[str], Counter[str], float]:
    """Decide n properties; return the answers, the methods that proved the unsatisfiable ones, and CPU seconds."""
    data, read = examples(KINDS[kind].dataset, test=True), onnx_reader.read(network)
    images = data.images[: 4 * n].double() / 255
    right = (read(images.view(-1, *read.input_shape)).flatten(1).argmax(1) == data.labels[: 4 * n]).nonzero().squeeze(1)
    answers, methods, cpu = Counter[str](), Counter[str](), 0.0
    for row in right[:n].tolist():
        x, label = images[row].flatten(), int(data.labels[row])
        prop = network.with_suffix(".vnnlib")
        prop.write_text(robustness(x, label, eps))
        start = time.process_time()
        verdict = properties.verify(network, prop, seconds)
        cpu += time.process_time() - start
        if reason := wrong(network, x, label, eps, verdict):
            sys.exit(f"{kind}, image {row}, eps {eps}: {verdict.answer}: {reason}")
        answers[verdict.answer] += 1
        if verdict.answer == "unsat":
            methods[verdict.method] += 1
    return answers, methods, cpu


def main() -> None:
    """Print a line for each kind and eps, and the totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--n", type=int, default=5, help="properties for each eps (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each property (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where trained networks are kept and reused")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{options.n} properties a line, {options.seconds:g} s each, {torch.get_num_threads()} threads\n")
        print("| network | eps | sat | unsat | open | proved by | processor seconds a property |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        total = Counter[str]()
        for kind in options.kinds or KINDS:
            network = folder / f"{kind}.onnx"
            if not network.exists():
                save(train(KINDS[kind], TRAINING_IMAGES), KINDS[kind].shape, network)
            for eps in KINDS[kind].eps:
                answers, methods, cpu = decide(kind, network, options.n, options.seconds, eps)
                total += answers
                left = answers["unknown"] + answers["timeout"]
                proved = ", ".join(f"{method} {count}" for method, count in methods.items()) or "–"
                cells = (kind, eps, answers["sat"], answers["unsat"], left, proved, f"{cpu / options.n:.1f}")
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
        left = total["unknown"] + total["timeout"]
        print(f"\nno wrong verdict; sat {total['sat']}, unsat {total['unsat']}, open {left}")


if __name__ == "__main__":
    main()
