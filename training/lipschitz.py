"""Layers whose Lipschitz constant (L2, pixel units) is at most 1 by construction, and the certificate they give.

During training a layer builds its weight so that the bound holds at every step; ``freeze`` writes that
weight into a plain convolution or linear layer, so that the exported graph holds only standard operators.
Reported certificates are proved from the exported weights (``gauntlet.certify``), not from the construction.
"""

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional


class MaxMin(nn.Module):
    """Sorts pairs of channels: 1-Lipschitz and gradient norm preserving (Anil et al., arXiv 1811.05381)."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        if not self.training:
            return torch.cat((torch.maximum(a, b), torch.minimum(a, b)), 1)
        excess = functional.relu(a - b)  # same values, but the backward pass takes a quarter of the time on the CPU
        return torch.cat((b + excess, a - excess), 1)


def orthonormal(weight: Tensor) -> Tensor:
    """Map a matrix (..., rows, columns), rows >= columns, to one with orthonormal columns: the Cayley transform.

    For rectangular matrices as in Trockman and Kolter (arXiv 2104.07167): with U the upper square and V the rest,
    A = U - U' + V'V has no eigenvalue -1, so that the inverse always exists.
    """
    columns = weight.shape[-1]
    square, rest = weight[..., :columns, :], weight[..., columns:, :]
    eye = torch.eye(columns, dtype=weight.dtype, device=weight.device)
    skew = square - square.mT + rest.mT @ rest
    inverse = torch.linalg.inv(eye + skew)
    return torch.cat((inverse @ (eye - skew), -2 * rest @ inverse), -2)


class OrthogonalConv2d(nn.Module):
    """Orthogonal 3x3 convolution with ``same`` padding (BCOP: Li et al., arXiv 1911.00937), stride by unshuffling.

    The kernel is a channel mixing followed by four steps of one pixel, two down and two across; a step with projector P
    leaves the part P x in place and moves the rest. All of them are orthogonal on a torus; zero padding, and a number
    of channels that shrinks, can only shorten vectors.

    With stride s the input is rearranged to s*s times as many channels on a grid s times as coarse
    (``pixel_unshuffle``), which keeps its norm. Frozen, this is one convolution of stride s with a 3s x 3s kernel.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.channels = channels_out, channels_in * stride**2
        size = max(self.channels)
        self.mixing = nn.Parameter(torch.randn(size, size) / size**0.5)
        self.steps = nn.Parameter(torch.randn(4, size, size // 2) / size**0.5)
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def kernel(self) -> Tensor:
        """The kernel (out, in * stride^2, 3, 3) with Lipschitz constant at most 1."""
        basis = orthonormal(self.steps)
        stay = basis @ basis.mT  # (4, C, C)
        pairs = torch.stack((stay, torch.eye(len(self.mixing)).to(stay) - stay), 1)  # (4, 2, C, C)
        first, second = (torch.einsum("iab,jbc->ijac", pairs[k], pairs[k + 1]) for k in (0, 2))  # (2, 2, C, C)
        second = second @ orthonormal(self.mixing)
        taps: list[list[Tensor]] = [[torch.zeros_like(stay[0])] * 3 for _ in range(3)]
        for down, across, then_down, then_across in itertools.product(range(2), repeat=4):
            y, x = down + then_down, across + then_across
            taps[y][x] = taps[y][x] + first[down, across] @ second[then_down, then_across]
        kernel = torch.stack([torch.stack(row, -1) for row in taps], -2)  # (C, C, 3, 3)
        out, stacked = self.channels
        return kernel[:out, :stacked]

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pixel_unshuffle(x, self.stride) if self.stride > 1 else x
        return functional.conv2d(x, self.kernel(), self.bias, padding=1)

    def frozen(self) -> nn.Conv2d:
        """The same map as a plain convolution."""
        weight = functional.pixel_shuffle(self.kernel().detach(), self.stride)  # (out, in, 3 s, 3 s)
        out, channels, taps, _ = weight.shape
        plain = nn.Conv2d(channels, out, taps, stride=self.stride, padding=self.stride)
        plain.weight.data.copy_(weight)
        plain.bias.data.copy_(self.bias.detach())  # type: ignore[union-attr]
        return plain


class OrthogonalLinear(nn.Module):
    """Fully connected layer with orthonormal rows or columns, whichever are fewer."""

    def __init__(self, features_in: int, features_out: int) -> None:
        super().__init__()
        self.widens = features_out >= features_in
        rows, columns = max(features_in, features_out), min(features_in, features_out)
        self.raw = nn.Parameter(torch.randn(rows, columns) / rows**0.5)
        self.bias = nn.Parameter(torch.zeros(features_out))

    def weight(self) -> Tensor:
        """The matrix (out, in) with spectral norm 1."""
        tall = orthonormal(self.raw)
        return tall if self.widens else tall.T

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight(), self.bias)

    def frozen(self) -> nn.Linear:
        """The same map as a plain layer."""
        return _plain(self)


class UnitRowLinear(nn.Module):
    """The head: rows of norm 1, so that a margin is measured in input distance (Singla et al., arXiv 2108.04062)."""

    def __init__(self, features_in: int, features_out: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(nn.init.orthogonal_(torch.empty(features_out, features_in)))
        self.bias = nn.Parameter(torch.zeros(features_out))

    def weight(self) -> Tensor:
        """The matrix (out, in) with rows of norm 1."""
        return functional.normalize(self.raw)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight(), self.bias)

    def frozen(self) -> nn.Linear:
        """The same map as a plain layer."""
        return _plain(self)


class AolConv2d(nn.Module):
    """Convolution whose input channels are scaled so that its norm is at most 1 (AOL: arXiv 2208.03160).

    Channel c is divided by the root of the sum over channels and shifts of |K'K|[c]. Valid for every kernel.
    """

    def __init__(self, channels_in: int, channels_out: int, taps: int, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.raw = nn.Parameter(nn.init.orthogonal_(torch.empty(channels_out, channels_in, taps, taps)))
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def kernel(self) -> Tensor:
        """The kernel (out, in, taps, taps) with Lipschitz constant at most 1."""
        swapped = self.raw.transpose(0, 1)  # (in, out, taps, taps)
        gram = functional.conv2d(swapped, swapped, padding=self.raw.shape[-1] - 1)  # (in, in, 2 taps - 1, 2 taps - 1)
        return self.raw * (gram.abs().sum((1, 2, 3)) + 1e-12).rsqrt()[None, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.kernel(), self.bias, padding=self.padding)

    def frozen(self) -> nn.Conv2d:
        """The same map as a plain convolution."""
        kernel = self.kernel().detach()
        out, channels, taps, _ = kernel.shape
        plain = nn.Conv2d(channels, out, taps, padding=self.padding)
        plain.weight.data.copy_(kernel)
        plain.bias.data.copy_(self.bias.detach())  # type: ignore[union-attr]
        return plain


class AolLinear(nn.Module):
    """Fully connected layer whose rows are scaled so that its norm is at most 1: AOL of the transpose."""

    def __init__(self, features_in: int, features_out: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(nn.init.orthogonal_(torch.empty(features_out, features_in)))
        self.bias = nn.Parameter(torch.zeros(features_out))

    def weight(self) -> Tensor:
        """The matrix (out, in) with spectral norm at most 1."""
        return self.raw * ((self.raw @ self.raw.T).abs().sum(1) + 1e-12).rsqrt()[:, None]

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight(), self.bias)

    def frozen(self) -> nn.Linear:
        """The same map as a plain layer."""
        return _plain(self)


def _plain(layer: "OrthogonalLinear | UnitRowLinear | AolLinear") -> nn.Linear:
    weight = layer.weight().detach()
    plain = nn.Linear(weight.shape[1], weight.shape[0])
    plain.weight.data.copy_(weight)
    plain.bias.data.copy_(layer.bias.detach())
    return plain


Constrained = OrthogonalConv2d | OrthogonalLinear | UnitRowLinear | AolConv2d | AolLinear


def freeze(network: nn.Sequential) -> nn.Sequential:
    """Return a copy in evaluation mode with every constrained layer replaced by an equal plain layer."""
    plain = copy.deepcopy(network).eval().requires_grad_(False)
    for name, child in plain.named_children():
        if isinstance(child, Constrained):
            setattr(plain, name, child.frozen().to(child.bias.device).requires_grad_(False))
    return plain


def class_distances(head: Tensor) -> Tensor:
    """Compute the L2 distances (classes, classes) between the rows of a head (classes, features)."""
    return (head[:, None] - head[None, :]).square().sum(2).clamp_min(1e-24).sqrt()


def certified_radii(logits: Tensor, head: Tensor) -> Tensor:
    """Compute the L2 radius in which the predicted class cannot change: min over j of (z_t - z_j) / ||w_t - w_j||.

    For a body that is 1-Lipschitz by construction. Only for choosing checkpoints: reported radii are proved from the
    exported weights by gauntlet.certify.lipschitz.

    Args:
        logits: (B, classes).
        head: weight of the linear head (classes, features).

    Returns:
        (B,), in pixel units.
    """
    top = logits.argmax(1)
    gaps = logits.gather(1, top[:, None]) - logits
    radii = gaps / class_distances(head)[top]
    return radii.scatter(1, top[:, None], torch.inf).amin(1)
