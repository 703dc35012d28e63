"""``python -m bench.attacks``: our Carlini-Wagner beside foolbox's, on the same network, images and machine.

Both run 6 searches of 200 steps on the first images that the model classifies correctly and differentiate the same
module, parameters frozen for both. Foolbox runs twice: as it comes, and with our step size and first weight c. ONNX
Runtime counts the successes of both. Runs alternate; the median of ``--rounds`` is reported.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from foolbox.attacks.carlini_wagner import L2CarliniWagnerAttack
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor

from gauntlet import evalset, referee, runtime, store
from gauntlet.threat import Threat, distances

SEARCHES, STEPS = 6, 200


def ours(model: runtime.Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Minimal L2 per image, inf where the attack failed: (n,)."""
    params = {"searches": SEARCHES, "steps": STEPS}
    return referee.run(model, "cw", x, y, Threat("l2"), params=params).minimal["l2"]


def theirs(model: runtime.Classifier, x: Tensor, y: Tensor, **options: Any) -> Tensor:
    """The same for foolbox 3."""
    attack = L2CarliniWagnerAttack(binary_search_steps=SEARCHES, steps=STEPS, **options)
    wrapped = PyTorchModel(model.twin, bounds=(0, 1), device=model.device)
    found, _, _ = attack(wrapped, x.to(model.device), y.to(model.device), epsilons=None)
    found = found.cpu()
    fooled = model.predict(found).argmax(dim=1) != y
    return torch.where(fooled, distances(x, found)["l2"], torch.inf)


CONTENDERS: dict[str, Callable[[runtime.Classifier, Tensor, Tensor], Tensor]] = {
    "gauntlet": ours,
    "foolbox": theirs,
    "foolbox, our step and c": partial(theirs, stepsize=0.1, initial_const=0.1),
}


def main() -> None:
    """Print a table of time, success rate and median L2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fashion-mnist-standard")
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = runtime.open_model(store.load(Path("models/artifacts") / options.model))
    assert isinstance(model, runtime.Classifier)
    data = evalset.load(Path("models/evalsets") / f"{model.manifest.dataset}.npz")
    x, y = data.head(4 * options.n)
    right = (model.predict(x).argmax(dim=1) == y).nonzero().squeeze(1)[: options.n]
    x, y = x[right], y[right]
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    found: dict[str, Tensor] = {}
    for _ in range(options.rounds):
        for name, attack in CONTENDERS.items():
            start = time.perf_counter()
            found[name] = attack(model, x, y)
            seconds[name].append(time.perf_counter() - start)
    print(f"Carlini-Wagner L2, {SEARCHES} x {STEPS}, {options.model}, n = {len(x)}, {torch.get_num_threads()} threads")
    print("| library | seconds (median) | success | median L2 | mean L2 |\n| --- | --- | --- | --- | --- |")
    for name, l2 in found.items():
        won = l2[l2.isfinite()]
        print(
            f"| {name} | {statistics.median(seconds[name]):.1f} | {len(won) / len(x):.3f} "
            f"| {float(l2.median()):.3f} | {float(won.mean()):.3f} |"
        )


if __name__ == "__main__":
    main()
