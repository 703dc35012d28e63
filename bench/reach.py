"""``python -m bench.reach``: can a generator draw all classes, if its latents are chosen in the best way?

For validation images, latents are optimised (Adam on the squared distance, from zero) so that the generated image is as
near as possible; the judge classifies both. A class that is missing even then is missing because of the network, not
because of how latents are drawn.
"""

import argparse
from pathlib import Path

import torch
from onnx2pytorch import ConvertModel
from torch import Tensor, nn

from gauntlet.artifacts import artefact_folders, onnx_file
from gauntlet.artifacts.manifest import GeneratorManifest
from training.data import SOURCES, data_root, load_training, to_pixels
from training.generation_metrics import Judge


def nearest(generator: nn.Module, images: Tensor, latent_dim: int, steps: int) -> Tensor:
    """Return the generated images nearest to images (N, C, H, W), as far as Adam finds them."""
    latents = torch.zeros(len(images), latent_dim, requires_grad=True)
    optimizer = torch.optim.Adam([latents], 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward((generator(latents) - images).square().sum())
        optimizer.step()
    with torch.no_grad():
        drawn: Tensor = generator(latents)
    return drawn


def main() -> None:
    """Print how many images are classified correctly, and the share of each class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10-vae-128")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--artifacts", type=Path, default=Path("models/artifacts"))
    options = parser.parse_args()
    artefact = artefact_folders.load(options.artifacts / options.model)
    assert isinstance(artefact.manifest, GeneratorManifest)
    source = SOURCES[artefact.manifest.dataset]
    held_out = load_training(source, data_root()).validation
    images, labels = to_pixels(held_out.images[: options.n]), held_out.labels[: options.n].numpy()
    judge = Judge(options.artifacts / f"{source.name}-standard")
    generator = ConvertModel(onnx_file.read(artefact.model_path), experimental=True).eval().requires_grad_(False)
    drawn = nearest(generator, images, artefact.manifest.latent_dim, options.steps)
    print(f"{options.model}, {len(images)} validation images; root of the mean squared difference of a pixel", end=" ")
    print(f"{(drawn - images).square().mean().sqrt():.3f}")
    for name, pictures in (("images", images), ("nearest drawn", drawn)):
        right = (judge.logits(pictures).argmax(1) == labels).mean()
        shares = ", ".join(f"{100 * share:.1f}" for share in judge.shares(pictures))
        print(f"{name}: {100 * right:.1f} % right, classes {shares} %")


if __name__ == "__main__":
    main()
