"""Latents that a generator needs for given images."""

import torch
from torch import nn

from bench.reach import nearest


def test_the_nearest_image_of_a_linear_generator_is_the_projection() -> None:
    torch.manual_seed(0)
    generator = nn.Linear(2, 6).requires_grad_(False)
    images = torch.randn(3, 6)
    basis = torch.linalg.qr(generator.weight).Q
    expected = generator.bias + (images - generator.bias) @ basis @ basis.T
    torch.testing.assert_close(nearest(generator, images, 2, steps=2_000), expected, rtol=0, atol=1e-3)
