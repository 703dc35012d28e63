"""Pictures for an artefact folder: learning curves, sheets of images, a map of a latent space."""

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from training.data import TrainingData, to_pixels

CELL = 56  # pixels of a sheet per image
LABEL = 12  # pixels of a sheet below an image that has a label


def learning_curves(history: Sequence[Mapping[str, float]], panels: Mapping[str, Sequence[str]]) -> Image.Image:
    """Plot metrics over epochs, in one panel per entry of ``panels`` (title -> names of its metrics)."""
    figure = Figure(figsize=(4.2 * len(panels), 3.2), layout="constrained")
    epochs = range(1, len(history) + 1)
    for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name in names:
            axes.plot(epochs, [record[name] for record in history], label=name.replace("_", " "))
        axes.set(title=title, xlabel="epoch")
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    return drawn(figure)


def latent_map(means: NDArray[np.float32], labels: NDArray[np.int64], classes: Sequence[str]) -> Image.Image:
    """Plot latent means (N, D) on their first two principal components, coloured by class (N,)."""
    centred = means - means.mean(0)
    _, scales, axes_ = np.linalg.svd(centred, full_matrices=False)
    x, y = (centred @ axes_[:2].T).T
    share = (scales**2 / (scales**2).sum())[:2]
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes = figure.subplots()
    for index, name in enumerate(classes):
        mine = labels == index
        axes.scatter(x[mine], y[mine], s=3, alpha=0.5, label=name, color=mpl.colormaps["tab10"](index))
    axes.set(
        xlabel=f"first component ({share[0]:.0%} of variance)",
        ylabel=f"second component ({share[1]:.0%})",
        title="validation images in latent space",
    )
    axes.legend(fontsize=7, markerscale=4)
    return drawn(figure)


def sheet(images: Tensor, columns: int, labels: Sequence[tuple[str, bool]] | None = None) -> Image.Image:
    """Draw images (N, C, H, W) in [0, 1] side by side, each with its label below, in red if its flag is False."""
    rows = -(-len(images) // columns)
    height = CELL + (LABEL if labels else 0)
    coloured = labels is not None or images.shape[1] == 3
    page = Image.new("RGB" if coloured else "L", (columns * CELL, rows * height), "white")
    draw = ImageDraw.Draw(page)
    for index, pixels in enumerate((images * 255).round().byte().movedim(1, 3).squeeze(3).numpy()):
        left, top = index % columns * CELL, index // columns * height
        page.paste(Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.NEAREST), (left, top))
        if labels:
            text, right = labels[index]
            draw.text((left + 1, top + CELL), text[:9], fill="black" if right else "red", font_size=10)
    return page


def beside_nearest(samples: Tensor, data: TrainingData) -> Image.Image:
    """Draw samples (N, C, H, W) in rows of 10, each row above the nearest training images."""
    closest = nearest(samples, to_pixels(data.train.images))
    return sheet(
        torch.stack((samples.view(-1, 10, *samples.shape[1:]), closest.view(-1, 10, *samples.shape[1:])), 1).flatten(
            0, 2
        ),
        10,
    )


def nearest(samples: Tensor, images: Tensor) -> Tensor:
    """Return for each sample (N, C, H, W) the image of (M, C, H, W) that is nearest in L2: (N, C, H, W)."""
    distances = torch.cdist(samples.flatten(1), images.flatten(1))
    return images[distances.argmin(1)]


def drawn(figure: Figure) -> Image.Image:
    """Render a figure as a picture of at most 64 colours."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return Image.open(buffer).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
