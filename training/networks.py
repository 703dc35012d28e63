"""The networks. All take pixels in [0, 1]; where they are normalised, that is their first layer."""

import torch
from torch import Tensor, nn

from training.lipschitz import MaxMin, OrthogonalConv2d, OrthogonalLinear, UnitRowLinear


class Normalise(nn.Module):
    """Subtract a constant from the pixels and divide them by another."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Centre(nn.Module):
    """Subtract a constant from the pixels: distances stay in pixel units."""

    mean: Tensor

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))

    def forward(self, x: Tensor) -> Tensor:
        return x - self.mean


def standard_cnn(classes: int, dropout: float) -> nn.Sequential:
    """Two convolutions of 64 and 128 filters with 2x2 kernels, a dense layer of 256, dropout.

    The paper does not say how it pads, pools and activates. Our choice: padding 1 on each side, 2x2 max-pooling and
    ReLU after each convolution (28 -> 29 -> 14 -> 15 -> 7; pooled first, which gives the same and costs less);
    dropout before the dense layer and after it.

    Returns:
        Images (B, 1, 28, 28) to logits (B, classes).
    """
    return nn.Sequential(
        Normalise(0.2860, 0.3530),  # mean and deviation of Fashion-MNIST's training pixels
        nn.Conv2d(1, 64, 2, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(64, 128, 2, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(128 * 7 * 7, 256),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(256, classes),
    )


def lipschitz_cnn(classes: int, width: int) -> nn.Sequential:
    """A plain chain of 1-Lipschitz layers: five convolutions at 14x14 and 7x7, two dense layers, a unit-row head.

    Returns:
        Images (B, 1, 28, 28) to logits (B, classes). Two logits differ by at most the distance of the inputs times
        the distance of their rows in the head.
    """
    return nn.Sequential(
        Centre(0.2860),
        OrthogonalConv2d(1, width, stride=2),
        MaxMin(),
        OrthogonalConv2d(width, width),
        MaxMin(),
        OrthogonalConv2d(width, width),
        MaxMin(),
        OrthogonalConv2d(width, 2 * width, stride=2),
        MaxMin(),
        OrthogonalConv2d(2 * width, 2 * width),
        MaxMin(),
        nn.Flatten(),
        OrthogonalLinear(2 * width * 7 * 7, 8 * width),
        MaxMin(),
        OrthogonalLinear(8 * width, 8 * width),
        MaxMin(),
        UnitRowLinear(8 * width, classes),
    )


class VaeEncoder(nn.Sequential):
    """Images (B, 1, 28, 28) to mean and log-variance of the latents, one after the other (B, 2 * latent_dim)."""

    def __init__(self, latent_dim: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(1, width, 4, stride=2, padding=1),  # (B, width, 14, 14)
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),  # (B, 2 width, 7, 7)
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            nn.Linear(2 * width * 49, 256),
            nn.LeakyReLU(0.1),
            nn.Linear(256, 2 * latent_dim),
        )


class VaeDecoder(nn.Module):
    """Latents (B, latent_dim) to images (B, 1, 28, 28) in [0, 1]."""

    def __init__(self, latent_dim: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(latent_dim, 256),
            nn.LeakyReLU(0.1),
            nn.Linear(256, 2 * width * 49),
            nn.LeakyReLU(0.1),
            nn.Unflatten(1, (2 * width, 7, 7)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),  # (B, width, 14, 14)
            nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),  # (B, 1, 28, 28)
        )

    def logits(self, latents: Tensor) -> Tensor:
        """Log-odds of each pixel, (B, 1, 28, 28)."""
        pixels: Tensor = self.body(latents)
        return pixels

    def forward(self, latents: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(latents))


class DenseGenerator(nn.Sequential):
    """Fully connected: latents (B, latent_dim) to images (B, 1, 28, 28) in [0, 1]."""

    def __init__(self, latent_dim: int, width: int) -> None:
        super().__init__(
            nn.Linear(latent_dim, width),
            nn.BatchNorm1d(width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 2 * width),
            nn.BatchNorm1d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Linear(2 * width, 28 * 28),
            nn.Sigmoid(),
            nn.Unflatten(1, (1, 28, 28)),
        )


class DenseDiscriminator(nn.Sequential):
    """Fully connected: images (B, 1, 28, 28) to the log-odds of being real (B, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__(
            Normalise(0.5, 0.5),
            nn.Flatten(),
            nn.Linear(28 * 28, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Linear(2 * width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )
