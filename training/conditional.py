"""A class-conditional generator, which takes the class from its latents, and its projection discriminator.

So the exported graph maps standard normal latents to images like any other generator, and every class is equally
likely. Class-conditional normalisation, and a discriminator that projects on the class: Miyato and Koyama, "cGANs with
Projection Discriminator", arXiv 1802.05637. The other latents modulate the normalisation too: Chen et al., "On Self
Modulation for Generative Adversarial Networks", arXiv 1810.01365.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from training.networks import Normalise, Shape

CLASSES = 10  # the index of the largest of the first ten latents is the class


def apart(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Split latents (B, latent_dim) into those that choose the class (B, CLASSES) and the others."""
    choice, others = torch.split(latents, [CLASSES, latents.shape[1] - CLASSES], 1)
    return choice, others


def one_hot_class(latents: Tensor) -> Tensor:
    """Return the class that latents (B, latent_dim) choose, one-hot (B, CLASSES).

    Its distribution is uniform, because the latents are identically distributed.
    """
    choice, _ = apart(latents)
    return (choice >= choice.amax(1, keepdim=True)).to(latents.dtype)


class UpsampledConv2d(nn.Module):
    """Nearest-neighbour upsampling by 2, then a 3x3 convolution: (B, C, H, W) to (B, out, 2 H, 2 W).

    Computed as the equal strided transposed convolution, whose 4x4 kernel is made of the 3x3 one: 16 products instead
    of 36. Unconstrained 4x4 kernels leave checkerboard patterns (Odena et al., "Deconvolution and Checkerboard
    Artifacts", Distill 2016).
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        start = nn.Conv2d(channels, out, 3)
        self.weight = nn.Parameter(start.weight.detach().transpose(0, 1).contiguous())  # (channels, out, 3, 3)
        self.bias = nn.Parameter(torch.zeros(out))

    def kernel(self) -> Tensor:
        """Return the 4x4 kernel of the transposed convolution, (channels, out, 4, 4)."""
        padded = functional.pad(self.weight, (1, 1, 1, 1))
        rows = padded[:, :, 1:] + padded[:, :, :-1]
        return rows[:, :, :, 1:] + rows[:, :, :, :-1]

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv_transpose2d(x, self.kernel(), self.bias, stride=2, padding=1)

    def as_transposed(self) -> nn.ConvTranspose2d:
        """Return the same map as a plain transposed convolution with the 4x4 kernel as its weights."""
        channels, out = self.weight.shape[:2]
        plain = nn.ConvTranspose2d(channels, out, 4, 2, 1)
        plain.load_state_dict({"weight": self.kernel().detach(), "bias": self.bias.detach()})
        return plain


class Modulated(nn.Module):
    """A layer, batch normalisation whose gain and offset depend on the style (B, styles), then ReLU."""

    def __init__(self, layer: nn.Module, styles: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(layer, nn.BatchNorm2d(channels, affine=False))
        self.style = nn.Linear(styles, 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        gain, offset = self.style(style).unsqueeze(2).unsqueeze(3).chunk(2, 1)  # (B, channels, 1, 1) each
        return functional.relu(self.body(x) * (1 + gain) + offset)

    def simplify(self) -> None:
        """Replace an upsampled convolution by the equal transposed one; batch normalisation can be folded into that."""
        layer, norm = self.body
        if isinstance(layer, UpsampledConv2d):
            self.body = nn.Sequential(layer.as_transposed(), norm)


class ConditionalGenerator(nn.Module):
    """Latents (B, latent_dim) to images (B, *shape) in [0, 1], with ``width`` channels at full size."""

    def __init__(self, shape: Shape, latent_dim: int, width: int) -> None:
        super().__init__()
        doublings = 2 if shape[0] == 1 else 3
        side, channels = shape[1] // 2**doublings, width * 2**doublings
        start = nn.Sequential(nn.Linear(latent_dim, channels * side**2), nn.Unflatten(1, (channels, side, side)))
        self.blocks = nn.ModuleList([Modulated(start, latent_dim, channels)])
        for _ in range(doublings):
            self.blocks.append(Modulated(UpsampledConv2d(channels, channels // 2), latent_dim, channels // 2))
            channels //= 2
        self.last = nn.Conv2d(channels, shape[0], 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        style = torch.cat([one_hot_class(latents), apart(latents)[1]], 1)  # (B, latent_dim)
        x = style
        for block in self.blocks:
            x = block(x, style)
        return torch.sigmoid(self.last(x))

    def for_export(self) -> "ConditionalGenerator":
        """Return the same function in layers into which batch normalisation can be folded."""
        generator = copy.deepcopy(self)
        for block in generator.blocks:
            if isinstance(block, Modulated):
                block.simplify()
        return generator


class ProjectionDiscriminator(nn.Module):
    """Images (B, *shape) and their classes, one-hot (B, CLASSES), to scores (B, 1); spectrally normalised.

    Spectral normalisation: Miyato et al., arXiv 1802.05957. The first layer, at half size, has ``2 * width`` channels.
    """

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        doublings = 2 if shape[0] == 1 else 3
        layers: list[nn.Module] = [Normalise([0.5], [0.5])]
        channels, side = shape[0], shape[1]
        for number in range(doublings + 1):
            out = width * 2 ** min(number + 1, doublings)
            layers += [spectral_norm(nn.Conv2d(channels, out, 4, 2, 1)), nn.LeakyReLU(0.1)]
            channels, side = out, side // 2
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.score = spectral_norm(nn.Linear(channels * side**2, 1))
        self.classes = spectral_norm(nn.Linear(CLASSES, channels * side**2, bias=False))

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        features = self.body(images)  # (B, F)
        score: Tensor = self.score(features) + (features * self.classes(classes)).sum(1, keepdim=True)
        return score
