"""The constrained layers: the bound holds, survives freezing, and the certificate that rests on it is never broken."""

import pytest
import torch
from torch import Tensor, nn

from training.classifier_objectives import head_of, margin_loss
from training.lipschitz import (
    AolConv2d,
    AolLinear,
    MaxMin,
    OrthogonalConv2d,
    OrthogonalLinear,
    certified_radii,
    class_distances,
    freeze,
)
from training.networks import constrained_paper_cnn, lipschitz_cnn

LAYERS = {
    "conv": (lambda: OrthogonalConv2d(3, 6), (3, 8, 8)),
    "narrowing conv": (lambda: OrthogonalConv2d(6, 2), (6, 8, 8)),
    "strided conv": (lambda: OrthogonalConv2d(2, 6, stride=2), (2, 8, 8)),
    "scaled conv": (lambda: AolConv2d(3, 5, 2, padding=1), (3, 8, 8)),
    "scaled linear": (lambda: AolLinear(20, 12), (20,)),
    "linear": (lambda: OrthogonalLinear(12, 20), (12,)),
    "narrowing linear": (lambda: OrthogonalLinear(20, 12), (20,)),
}


def shaken(module: nn.Module, size: float = 0.3) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return module


def jacobian_norm(layer: nn.Module, shape: tuple[int, ...]) -> float:
    x = torch.rand(1, *shape, dtype=torch.float64)
    jacobian = torch.func.jacrev(layer)(x)
    assert isinstance(jacobian, Tensor)
    return float(torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()), 2))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_1_lipschitz_and_its_frozen_form_is_the_same_map(name: str) -> None:
    make, shape = LAYERS[name]
    layer = shaken(make()).double().requires_grad_(False)
    true = jacobian_norm(layer, shape)
    assert true <= 1 + 1e-9
    plain = freeze(nn.Sequential(layer)).double()
    x = torch.rand(4, *shape, dtype=torch.float64)
    torch.testing.assert_close(plain(x), layer(x), rtol=1e-5, atol=1e-5)  # frozen weights are float32


@pytest.mark.parametrize("name", ["conv", "linear"])
def test_a_widening_layer_loses_nothing_away_from_the_border(name: str) -> None:
    make, shape = LAYERS[name]
    layer = shaken(make()).double().requires_grad_(False)
    with torch.no_grad():
        layer.bias.zero_()
    x = torch.zeros(1, *shape, dtype=torch.float64)
    x[0, ..., 2:-2] = torch.rand(x[0, ..., 2:-2].shape)
    x[..., :2, :] = x[..., -2:, :] = 0
    torch.testing.assert_close(layer(x).norm(), x.norm())


def test_maxmin_keeps_norms() -> None:
    x = torch.randn(5, 8)
    torch.testing.assert_close(MaxMin()(x).norm(dim=1), x.norm(dim=1))


def test_radius_of_a_linear_model_is_the_distance_to_its_boundary() -> None:
    torch.manual_seed(0)
    head, x = torch.randn(4, 6, dtype=torch.float64), torch.randn(10, 6, dtype=torch.float64)
    logits = x @ head.T
    radii = certified_radii(logits, head)
    for row, z, radius in zip(x, logits, radii, strict=True):
        top = int(z.argmax())
        steps = [
            (z[top] - z[j]) / (head[j] - head[top]).square().sum() * (head[j] - head[top]) for j in range(4) if j != top
        ]
        nearest = min(steps, key=lambda step: float(step.norm()))
        assert float(nearest.norm()) == pytest.approx(float(radius))
        assert int((head @ (row + 0.999 * nearest)).argmax()) == top
        assert int((head @ (row + 1.001 * nearest)).argmax()) != top


NETWORKS = {
    "orthogonal": lambda: lipschitz_cnn((1, 28, 28), 10, [0.3], [1.0], blocks=[2, 1], width=8, features=16),
    "the paper's": lambda: constrained_paper_cnn((1, 28, 28), 10, [0.3], [1.0], filters=[8, 8]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_descent_breaks_a_certificate(name: str) -> None:
    network = shaken(NETWORKS[name](), 0.05)
    assert isinstance(network, nn.Sequential)
    plain = freeze(network)
    x = torch.rand(16, 1, 28, 28)
    clean = plain(x)
    radii = certified_radii(clean, head_of(plain))
    assert (radii > 0).all()
    top = clean.argmax(1)
    change = torch.zeros_like(x)
    for _ in range(20):
        change.requires_grad_()
        logits = plain(x + change)
        rivals = logits.scatter(1, top[:, None], -torch.inf).amax(1)
        (slope,) = torch.autograd.grad((rivals - logits.gather(1, top[:, None])[:, 0]).sum(), change)
        step = change + slope / slope.flatten(1).norm(dim=1)[:, None, None, None] * radii[:, None, None, None] / 4
        norm = step.flatten(1).norm(dim=1)
        change = (step * (0.999 * radii / norm).clamp_max(1)[:, None, None, None]).detach()
    assert torch.equal(plain(x + change).argmax(1), top)


def test_the_margin_loss_without_a_margin_is_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, labels, head = torch.randn(6, 5), torch.arange(6) % 5, torch.randn(5, 7)
    plain = nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(margin_loss(logits, labels, head, 0.0, 1.0), plain)
    raised = logits + 0.3 * class_distances(head)[labels]
    expected = nn.functional.cross_entropy(raised / 0.5, labels) * 0.5
    torch.testing.assert_close(margin_loss(logits, labels, head, 0.3, 0.5), expected)
    assert torch.equal(raised.gather(1, labels[:, None]), logits.gather(1, labels[:, None]))
