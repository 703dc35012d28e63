"""``python -m bench.picture``: draw the README's picture of a real attack, docs/attack.png.

It shows the first test images of different classes that both models classify correctly, and the smallest perturbation
that DDN finds for each model.
"""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch

from bench.figures import EVALSETS, LIPSCHITZ, MODELS, STANDARD
from gauntlet.artifacts import artefact_folders, evaluation_sets, image_conversion
from gauntlet.evaluation import referee
from gauntlet.runtime import classifier
from gauntlet.threat import Threat

COLUMNS = 5


def main() -> None:
    """Write docs/attack.png."""
    data = evaluation_sets.load(EVALSETS / "fashion-mnist.npz")
    x, y = map(torch.from_numpy, data.head(200))
    models = {}
    for name in (STANDARD, LIPSCHITZ):
        model = classifier.open_model(artefact_folders.load(MODELS / name))
        assert isinstance(model, classifier.OnnxClassifier)
        models[name] = model
    right = torch.stack([model.predict(x).argmax(dim=1) == y for model in models.values()]).all(dim=0)
    first = {int(y[row]): row for row in right.nonzero().squeeze(1).flip(0).tolist()}  # the first of each class
    rows = sorted(first.values())[:COLUMNS]
    figure, axes = plt.subplots(5, COLUMNS, figsize=(1.7 * COLUMNS, 9.2), dpi=80)
    labels = ["clean"]
    pictures = [[(x[row], data.classes[int(y[row])]) for row in rows]]
    for name, model in models.items():
        outcome = referee.run(model, "ddn", x[rows], y[rows], Threat("l2"), params={"steps": 100})
        short = name.removeprefix("fashion-mnist-")
        found = outcome.adversarial_label.tolist()
        labels += [f"fools {short}", "its noise,\namplified"]
        pictures.append([(image, data.classes[label]) for image, label in zip(outcome.images, found, strict=True)])
        noise = [
            torch.from_numpy(image_conversion.amplified(image - clean))
            for image, clean in zip(outcome.images, x[rows], strict=True)
        ]
        pictures.append([(n, f"L2 {float(size):.2f}") for n, size in zip(noise, outcome.l2, strict=True)])
    for row, (label, line) in enumerate(zip(labels, pictures, strict=True)):
        for column, (image, caption) in enumerate(line):
            axis = axes[row][column]
            axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
            axis.set_title(caption, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0:
                axis.set_ylabel(label, fontsize=9)
    figure.tight_layout()
    figure.savefig(Path("docs/attack.png"), metadata={"Software": None})


if __name__ == "__main__":
    main()
