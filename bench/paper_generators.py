"""The sections of docs/paper.md on generators: figures 4 to 13 of the student paper, and ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.paper import Paper

AUTOENCODERS = ("mnist-vae", "fashion-mnist-vae", "cifar10-vae", "cifar10-vae-128")
ADVERSARIES = (
    "mnist-dense-gan",
    "fashion-mnist-dense-gan",
    "cifar10-gan",
    "mnist-dcgan-plain",
    "mnist-dcgan",
    "cifar10-dcgan",
    "mnist-gan",
    "fashion-mnist-gan",
    "cifar10-conditional-gan",
)


def autoencoders(paper: Paper) -> Iterator[str]:
    """Figures 4 to 7."""
    yield "## Variational autoencoder (figures 4 to 7)"
    yield "The paper: 10 latent dimensions, MNIST and Fashion-MNIST; blurred on CIFAR-10. Ours, with 10 as well:"
    for name in AUTOENCODERS:
        yield f"### `{name}`"
        yield f"ELBO on the test set {_figure(paper, name, 'elbo', 1)} nats; {_quality(paper, name)}."
        for picture in ("samples", "curves", "latent"):
            yield from paper.picture(name, picture)


def adversaries(paper: Paper) -> Iterator[str]:
    """Figures 8 to 13."""
    yield "## Generative adversarial networks (figures 8 to 13)"
    yield (
        "The paper: a fully connected GAN, four discriminator steps for each generator step, samples at epochs 100, "
        "200 and 300; a DCGAN that failed on MNIST and, deeper, worked on CIFAR-10. Ours, samples as training went on: "
        "first the paper's two kinds, then, as `mnist-gan`, `fashion-mnist-gan` and `cifar10-conditional-gan`, "
        "class-conditional ones with one discriminator step for each generator step."
    )
    for name in ADVERSARIES:
        yield f"### `{name}`"
        yield f"{_quality(paper, name)}."
        for picture in ("progress", "samples", "curves"):
            yield from paper.picture(name, picture)


def _quality(paper: Paper, name: str) -> str:
    far, near = (paper.value(name, f"frechet_distance{of}") for of in ("", "_of_real_images"))
    times = f"{far / near:.0f} times as far as" if far and near else "beside"
    found = {
        key: _figure(paper, name, key, 3) for of in ("", "_of_real_images") for key in (f"precision{of}", f"recall{of}")
    }
    return (
        f"Frechet distance {_figure(paper, name, 'frechet_distance', 1)}, {times} real images "
        f"({_figure(paper, name, 'frechet_distance_of_real_images', 1)}); precision {found['precision']} (real images "
        f"{found['precision_of_real_images']}), recall {found['recall']} (real images "
        f"{found['recall_of_real_images']}); rarest class {paper.metric(name, 'min_class_share')}"
    )


def _figure(paper: Paper, model: str, name: str, digits: int) -> str:
    """Return a metric of a manifest as text, with this many digits after the point."""
    found = paper.value(model, name)
    return "not there" if found is None else f"{found:.{digits}f}"
