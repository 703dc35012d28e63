"""Networks of the generative models: generators and decoders (latents to pixels in [0, 1]), discriminators, encoder."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from training.networks import Normalise, Shape


class VaeEncoder(nn.Sequential):
    """Images (B, *shape) to mean and log-variance of the latents, one after the other (B, 2 * latent_dim)."""

    def __init__(self, shape: Shape, latent_dim: int, width: int) -> None:
        channels, side, _ = shape
        super().__init__(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),  # (B, width, side / 2, side / 2)
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),  # (B, 2 width, side / 4, side / 4)
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            nn.Linear(2 * width * (side // 4) ** 2, 256),
            nn.LeakyReLU(0.1),
            nn.Linear(256, 2 * latent_dim),
        )


class VaeDecoder(nn.Module):
    """Latents (B, latent_dim) to images (B, *shape) in [0, 1].

    The mean of many plausible images is blurred; ``sharpness`` above 1 moves each pixel nearer to its likelier extreme.
    """

    def __init__(self, shape: Shape, latent_dim: int, width: int, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness
        channels, side = shape[0], shape[1] // 4
        self.body = nn.Sequential(
            nn.Linear(latent_dim, 256),
            nn.LeakyReLU(0.1),
            nn.Linear(256, 2 * width * side**2),
            nn.LeakyReLU(0.1),
            nn.Unflatten(1, (2 * width, side, side)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),  # (B, width, 2 side, 2 side)
            nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),  # (B, *shape)
        )

    def logits(self, latents: Tensor) -> Tensor:
        """Log-odds of each pixel, (B, *shape)."""
        pixels: Tensor = self.body(latents)
        return pixels

    def forward(self, latents: Tensor) -> Tensor:
        return torch.sigmoid(self.sharpness * self.logits(latents))


def dense_generator(shape: Shape, latent_dim: int, width: int) -> nn.Sequential:
    """Fully connected: latents (B, latent_dim) to images (B, *shape) in [0, 1]."""
    return nn.Sequential(
        nn.Linear(latent_dim, width),
        nn.BatchNorm1d(width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, 2 * width),
        nn.BatchNorm1d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Linear(2 * width, math.prod(shape)),
        nn.Sigmoid(),
        nn.Unflatten(1, shape),
    )


def dense_discriminator(shape: Shape, width: int) -> nn.Sequential:
    """Fully connected: images (B, *shape) to the log-odds of being real (B, 1)."""
    return nn.Sequential(
        Normalise([0.5], [0.5]),
        nn.Flatten(),
        nn.Linear(math.prod(shape), 2 * width),
        nn.LeakyReLU(0.2),
        nn.Linear(2 * width, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, 1),
    )


def dcgan_generator(shape: Shape, latent_dim: int, width: int) -> nn.Sequential:
    """DCGAN (Radford et al., arXiv 1511.06434): latents (B, latent_dim) to images (B, *shape) in [0, 1].

    It starts at a quarter of the side, with two strided transposed convolutions, for grey images, and at an eighth,
    with three, for coloured ones. The last has ``width`` input channels.
    """
    doublings = _doublings(shape)
    side, channels = shape[1] // 2**doublings, width * 2 ** (doublings - 1)
    layers: list[nn.Module] = [
        nn.Linear(latent_dim, channels * side**2),
        nn.Unflatten(1, (channels, side, side)),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    ]
    for _ in range(doublings - 1):
        layers += [nn.ConvTranspose2d(channels, channels // 2, 4, 2, 1), nn.BatchNorm2d(channels // 2), nn.ReLU()]
        channels //= 2
    return nn.Sequential(*layers, nn.ConvTranspose2d(channels, shape[0], 4, 2, 1), nn.Sigmoid())


def dcgan_discriminator(shape: Shape, width: int, *, stabilised: bool) -> nn.Sequential:
    """Strided convolutions: images (B, *shape) to the log-odds of being real (B, 1).

    With batch normalisation, as published; if stabilised, with spectral normalisation instead (Miyato et al., arXiv
    1802.05957).
    """
    doublings = _doublings(shape)
    layers: list[nn.Module] = [Normalise([0.5], [0.5])]
    channels = shape[0]
    for number in range(doublings):
        out = width * 2**number
        conv = nn.Conv2d(channels, out, 4, 2, 1)
        normed = [spectral_norm(conv)] if stabilised else [conv, nn.BatchNorm2d(out)] if number else [conv]
        layers += [*normed, nn.LeakyReLU(0.2)]
        channels = out
    last = nn.Linear(channels * (shape[1] // 2**doublings) ** 2, 1)
    return nn.Sequential(*layers, nn.Flatten(), spectral_norm(last) if stabilised else last)


def _doublings(shape: Sequence[int]) -> int:
    return 2 if shape[0] == 1 else 3
