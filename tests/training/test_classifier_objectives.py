"""Losses and measures of training on networks whose answer is known in closed form."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from training.classifier import noisy
from training.classifier_objectives import REACH, adversarial, ascend, margin, noise, penalty, trades
from training.data import Examples
from training.gan import move_average, steepness
from training.generation_metrics import frechet_distance, halves, precision_and_recall

SHAPE = (1, 4, 4)


def linear(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(16, 3))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return 0.3 + 0.4 * torch.rand(12, *SHAPE), torch.arange(12) % 3


def test_without_a_radius_the_margin_loss_is_cross_entropy() -> None:
    network, (x, y) = linear(), batch()
    assert torch.allclose(margin(network, x, y), functional.cross_entropy(network(x), y))


def test_the_penalty_is_the_mean_squared_ratio_whatever_the_distance_and_the_dropout() -> None:
    network, (x, y) = linear(), batch()
    weight = network[2].weight
    probe = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(functional.cross_entropy(network(probe), y, reduction="sum"), probe)
    direction = gradient.flatten(1) / gradient.flatten(1).norm(dim=1, keepdim=True)
    exact = (direction @ weight.T).norm(dim=1).square().mean()  # |W d|^2 for the direction d of the move
    for distance in (0.01, 0.1):
        both, plain = (penalty(network, x, y, eps=distance, penalty=weigh) for weigh in (1.0, 0.0))
        assert (both - plain).item() == pytest.approx(exact.item(), rel=1e-3)
    noisy = linear(dropout=0.5).train()
    torch.manual_seed(3)
    with_pair = penalty(noisy, x, y, eps=0.1, penalty=1.0)
    torch.manual_seed(3)
    assert (with_pair - penalty(noisy, x, y, eps=0.1, penalty=0.0)).item() == pytest.approx(exact.item(), rel=1e-3)
    assert noisy.training


def test_pgd_goes_to_the_corner_that_is_worst_for_a_linear_network() -> None:
    network, (x, _) = linear(), batch()
    y = torch.zeros(12, dtype=torch.long)
    network[2].weight.data[1] = network[2].weight.data[2]  # two classes: the gradient's sign never changes
    network[2].bias.data[1] = network[2].bias.data[2]
    torch.manual_seed(3)
    moved = ascend(network, x, y, 0.1, 10)
    assert (moved - x).abs().max().item() <= 0.1 + 1e-6
    direction = (network[2].weight[1] - network[2].weight[0]).detach().sign().view(SHAPE)
    way = (moved - x) * direction  # eps at the worst corner
    assert float(way.min()) >= (REACH - 1) * 0.1 - 1e-6  # from the farthest start
    assert float((way > 0.1 - 1e-6).double().mean()) > 0.6
    expected = functional.cross_entropy(network(moved), y)
    torch.manual_seed(3)
    assert torch.allclose(adversarial(network, x, y, eps=0.1, steps=10), expected, rtol=1e-4)


def test_trades_is_cross_entropy_where_nothing_can_move_and_more_where_it_can() -> None:
    network, (x, y) = linear(), batch()
    plain = functional.cross_entropy(network(x), y)
    assert torch.allclose(trades(network, x, y, eps=0.0, steps=5, penalty=6.0), plain)
    assert (trades(network, x, y, eps=0.1, steps=5, penalty=6.0) - plain).item() > 0.01


def test_noise_is_cross_entropy_at_images_with_gaussian_noise() -> None:
    network, (x, y) = linear(), batch()
    assert torch.allclose(noise(network, x, y, sigma=0.0), functional.cross_entropy(network(x), y))
    seen: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    many = x.repeat(100, 1, 1, 1)
    noise(network, many, y.repeat(100), sigma=0.25)
    drawn = seen[0] - many
    assert drawn.mean().item() == pytest.approx(0, abs=0.01)
    assert drawn.std().item() == pytest.approx(0.25, rel=0.02)


def test_accuracy_under_noise_is_the_gaussian_share_on_the_right_side_of_a_plane() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    network[1].weight.data = torch.stack([torch.ones(16), torch.zeros(16)]) / 4
    network[1].bias.data = torch.tensor([-0.2, 0.0])
    images = torch.full((4_000, *SHAPE), 26, dtype=torch.uint8)  # at 16 * 26 / 255 / 4 - 0.2 from the boundary
    examples = Examples(images, torch.zeros(4_000, dtype=torch.long), official=True, sha256="")
    expected = torch.special.ndtr(torch.tensor((4 * 26 / 255 - 0.2) / 0.25)).item()
    assert noisy(network, examples, 0.25) == pytest.approx(expected, abs=0.025)
    assert noisy(network, examples, 0.25) == noisy(network, examples, 0.25)
    assert noisy(network, examples, 0.0) == 1


def test_frechet_distance_of_known_gaussians() -> None:
    draw = np.random.default_rng(0)
    one = draw.normal(size=(20_000, 3)).astype(np.float32)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(one + np.float32(2), one) == pytest.approx(12, rel=1e-3)  # 3 x 2^2
    assert frechet_distance(one * np.float32(3), one) == pytest.approx(3 * (3 - 1) ** 2, rel=0.02)
    assert np.isnan(frechet_distance(np.full_like(one, np.nan), one))


def test_the_halves_of_a_sorted_file_are_alike() -> None:
    one, other = halves(torch.arange(101.0)[:, None].repeat(1, 2))
    assert one.shape == other.shape == (50, 2)
    assert frechet_distance(one.numpy(), other.numpy()) == pytest.approx(2)  # one step apart in each feature


def test_precision_falls_with_foreign_samples_and_recall_with_missing_ones() -> None:
    draw = np.random.default_rng(0)
    real = np.concatenate([draw.normal(0, 1, (200, 2)), draw.normal(50, 1, (200, 2))]).astype(np.float32)
    half, foreign = real[:200] + np.float32(1e-3), np.concatenate([real[:200], real[:200] - np.float32(100)])
    assert precision_and_recall(real, real) == (1.0, 1.0)
    precision, recall = precision_and_recall(half, real)
    assert precision > 0.95
    assert recall == pytest.approx(0.5, abs=0.02)
    assert precision_and_recall(foreign, real)[0] == 0.5


def test_the_gradient_penalty_of_a_linear_discriminator_is_its_squared_weight() -> None:
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    exact = discriminator[1].weight.square().sum().item() / 4  # pixels from -1 to 1 are twice as far apart
    assert steepness(discriminator, batch()[0]).item() == pytest.approx(exact, rel=1e-5)


def test_the_moving_average_moves_by_its_share() -> None:
    mean, network = linear(), linear()
    network[2].weight.data += 1.0
    before = mean[2].weight.clone()
    move_average(mean, network, 0.9)
    assert torch.allclose(mean[2].weight, before + 0.1, atol=1e-6)
