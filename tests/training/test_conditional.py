"""The class-conditional pair of networks, and the losses that it is trained with."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from training.conditional import (
    CLASSES,
    ConditionalGenerator,
    ProjectionDiscriminator,
    UpsampledConv2d,
    one_hot_class,
)
from training.gan import discriminator_loss, generator_loss, rate_factor


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (5, 3)])
def test_the_transposed_convolution_is_doubled_pixels_and_a_3x3_convolution(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer, x = UpsampledConv2d(3, 2), torch.randn(2, 3, *shape)
    torch.nn.init.normal_(layer.bias)
    kernel = layer.weight.transpose(0, 1).flip(2, 3)  # a transposed convolution turns its kernel round
    expected = functional.conv2d(functional.interpolate(x, scale_factor=2), kernel, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.as_transposed()(x), expected)


def test_classes_are_drawn_alike_and_one_at_a_time() -> None:
    torch.manual_seed(0)
    classes = one_hot_class(torch.randn(20_000, 16))
    assert torch.equal(classes.sum(1), torch.ones(20_000))
    torch.testing.assert_close(classes.mean(0), torch.full((CLASSES,), 1 / CLASSES), rtol=0, atol=0.01)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_images_depend_on_the_class_and_not_on_how_it_was_drawn(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    generator = ConditionalGenerator(shape, 16, 2).eval()
    latents = torch.randn(1, 16).repeat(3, 1)
    latents[0, :CLASSES] = torch.arange(CLASSES)
    latents[1, :CLASSES] = torch.arange(CLASSES) ** 2  # the same class, the last
    latents[2, :CLASSES] = -torch.arange(CLASSES)
    images = generator(latents)
    assert images.shape == (3, *shape)
    torch.testing.assert_close(images[0], images[1])
    assert not torch.allclose(images[0], images[2])
    torch.testing.assert_close(generator.for_export()(latents), images)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_scores_depend_on_the_class(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    images, classes = torch.rand(1, *shape).repeat(2, 1, 1, 1), torch.eye(CLASSES)[:2]
    scores = ProjectionDiscriminator(shape, 2).eval()(images, classes)
    assert scores.shape == (2, 1)
    assert scores[0] != scores[1]


def of(**fields: Any) -> Any:
    return SimpleNamespace(**fields)


def test_the_hinge_loss_is_silent_beyond_the_margin() -> None:
    config, real, fake = of(loss="hinge"), torch.tensor([[2.0], [0.5]]), torch.tensor([[-3.0], [0.0]])
    assert discriminator_loss(config, real, fake).item() == pytest.approx(0.25 + 0.5)
    assert generator_loss(config, fake).item() == pytest.approx(1.5)


def test_the_logistic_loss_of_undecided_scores_is_known() -> None:
    config, zero = of(loss="logistic"), torch.zeros(3, 1)
    assert discriminator_loss(config, zero, zero).item() == pytest.approx(2 * 0.6931472)
    assert generator_loss(config, zero).item() == pytest.approx(0.6931472)


@pytest.mark.parametrize(
    ("falling", "factors"), [(0.0, (1, 1, 1)), (1.0, (1, 0.5, 0.25)), (0.5, (1, 1, 0.5)), (0.25, (1, 1, 1))]
)
def test_learning_rates_fall_in_the_last_share_of_the_epochs(falling: float, factors: tuple[float, ...]) -> None:
    config = of(falling=falling)
    assert tuple(rate_factor(done, config) for done in (0, 0.5, 0.75)) == pytest.approx(factors)
