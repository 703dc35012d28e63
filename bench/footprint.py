"""``python -m bench.footprint``: the share of predictions with small margin or radius, on clean and attacked images.

The thresholds are those of deploy/prometheus/rules; docs/operations.md has the table.
"""

from pathlib import Path

import torch
from torch import Tensor

from gauntlet.artifacts import artefact_folders, evaluation_sets
from gauntlet.evaluation import referee
from gauntlet.runtime.classifier import Classifier, OnnxClassifier, open_model
from gauntlet.threat import Threat

MODELS = Path(__file__).resolve().parent.parent / "models"
CLEAN, ATTACKED = 1000, 60
MARGIN, RADIUS = 0.01, 0.05
ATTACKS: dict[str, tuple[str, float | None, dict[str, int]]] = {
    "DDN, 30 steps, successes": ("ddn", None, {"steps": 30}),
    "PGD, L2 0.5, 15 steps, successes": ("pgd", 0.5, {"steps": 15}),
}


def shares(model: Classifier, x: Tensor) -> tuple[str, str]:
    """Return the shares of small margins and of small certified radii, for images (n, C, H, W)."""
    logits = model.predict(x)  # (n, K)
    first, second = logits.double().softmax(dim=1).topk(2, dim=1).values.unbind(dim=1)
    margins, radii = first - second, model.certificate.radius(logits)
    small = (margins <= MARGIN).double().mean()
    return f"{small:.1%}", "none" if radii is None else f"{(radii <= RADIUS).mean():.1%}"


def main() -> None:
    """Print one line for each model and kind of images."""
    torch.set_num_threads(1)
    x, y = map(torch.from_numpy, evaluation_sets.load(MODELS / "evalsets" / "fashion-mnist.npz").head(CLEAN))
    for name in ("fashion-mnist-standard", "fashion-mnist-lipschitz"):
        model = open_model(artefact_folders.load(MODELS / "artifacts" / name), "cpu")
        assert isinstance(model, OnnxClassifier)
        print(f"{name:24s} clean, n={len(x)}: margin {shares(model, x)[0]}, radius {shares(model, x)[1]}")
        for title, (attack, eps, params) in ATTACKS.items():
            part = slice(0, ATTACKED)
            outcome = referee.run(model, attack, x[part], y[part], Threat("l2", eps), params=params, eight_bit=True)
            margin, radius = shares(model, outcome.images[outcome.success])
            n = int(outcome.success.sum())
            print(f"{name:24s} {title}, n={n}: margin {margin}, radius {radius}")


if __name__ == "__main__":
    main()
