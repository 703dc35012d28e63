"""Training objectives of classifiers: each function computes the loss of one batch, as one paper defines it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from gauntlet.threat import l2
from training import interval
from training.lipschitz import AolLinear, UnitRowLinear, class_distances

REACH = 1.5


def margin(network: nn.Sequential, x: Tensor, y: Tensor, *, radius: float = 0.0, temperature: float = 1.0) -> Tensor:
    """Cross-entropy, every other class's logit raised by the most that an L2 change of ``radius`` can raise it.

    With radius 0 it is plain cross-entropy. See ``margin_loss``.
    """
    return margin_loss(network(x), y, head_of(network), radius, temperature)


def penalty(network: nn.Sequential, x: Tensor, y: Tensor, *, eps: float, penalty: float) -> Tensor:
    """Cross-entropy and ``penalty`` times the mean squared ratio |f(x) - f(x')| / |x - x'|.

    The ratio is eq. 10 of the student paper, which takes it from Usama and Chang, "Towards Robust Neural Networks with
    Lipschitz Continuity", arXiv 1811.09008. Neither defines f and x'. Our choice: f are the logits, and x' is x moved
    by the L2 distance ``eps`` along the gradient of the cross-entropy; with a random x' at the same distance the ratio
    can be small although it is large in the direction that matters.
    """
    moved = _steepest(network, x, y, eps)
    loss = functional.cross_entropy(network(x), y)
    with _evaluating(network):  # different dropout masks would make the two logits differ
        here, there = network(torch.cat((x, moved))).chunk(2)
    ratio = l2(here - there) / l2(x - moved).clamp_min(1e-6)
    return loss + penalty * ratio.square().mean()


def adversarial(network: nn.Sequential, x: Tensor, y: Tensor, *, eps: float, steps: int) -> Tensor:
    """Cross-entropy at the adversarial example within Linf ``eps`` that ``steps`` steps of PGD find.

    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv 1706.06083; random start.
    """
    return functional.cross_entropy(network(ascend(network, x, y, eps, steps)), y)


def trades(network: nn.Sequential, x: Tensor, y: Tensor, *, eps: float, steps: int, penalty: float) -> Tensor:
    """Cross-entropy, plus ``penalty`` times the divergence of the prediction at an adversarial example within Linf eps.

    Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", arXiv 1901.08573.
    """
    moved = ascend(network, x, None, eps, steps)
    clean, worst = network(torch.cat((x, moved))).chunk(2)
    drift = functional.kl_div(worst.log_softmax(1), clean.log_softmax(1), log_target=True, reduction="batchmean")
    return functional.cross_entropy(clean, y) + penalty * drift


def noise(network: nn.Sequential, x: Tensor, y: Tensor, *, sigma: float) -> Tensor:
    """Cross-entropy at the image plus Gaussian noise of standard deviation ``sigma``; the sum may leave [0, 1].

    Cohen et al., "Certified Adversarial Robustness via Randomized Smoothing", arXiv 1902.02918, section 3.3.
    """
    return functional.cross_entropy(network(x + sigma * torch.randn(x.shape).to(x)), y)


def interval_bounds(
    network: nn.Sequential,
    x: Tensor,
    y: Tensor,
    progress: float,
    *,
    eps: float,
    warm_up: float,
    penalty: float,
    clean_weight: float = 0.0,
    eps_ratio: float = 1.0,
) -> Tensor:
    """Cross-entropy of the worst logits that interval bounds allow within Linf ``eps``, which rises from 0.

    Gowal et al., arXiv 1810.12715, with the regularisers of Shi et al., arXiv 2103.17268, whose weight falls from
    ``penalty`` to 0 while eps rises; the cross-entropy of the unchanged images has the weight ``clean_weight``.
    ``progress`` is the share of the training that is done; eps reaches ``eps_ratio * eps`` at progress ``warm_up``.
    """
    done = min(1.0, progress / warm_up)
    rise = done * done * (3 - 2 * done)
    boxes, box = interval.propagate(network, x, rise * eps_ratio * eps)
    head = network[-1]
    assert isinstance(head, nn.Linear)
    loss = (1 - clean_weight) * functional.cross_entropy(interval.worst_logits(head, box, y), y)
    if clean_weight:
        loss = loss + clean_weight * functional.cross_entropy(network(x), y)
    if rise < 1:
        loss = loss + penalty * (1 - rise) * interval.looseness(boxes)
    return loss


def ascend(network: nn.Sequential, x: Tensor, y: Tensor | None, eps: float, steps: int) -> Tensor:
    """Attack with PGD from a random start, without dropout; return images (B, C, H, W) within Linf ``eps`` of x.

    It maximises the cross-entropy with y (B,); without y, the KL divergence from the prediction at x. All steps
    together are ``REACH`` times eps long: trained with few long steps, a network learns to make this attack fail
    without becoming robust ("catastrophic overfitting", Wong et al., "Fast is better than free", arXiv 2001.03994).
    """
    with _evaluating(network):
        objective = _attack_objective(network, x, y)
        moved = x + eps * (2 * torch.rand(x.shape).to(x) - 1)
        for _ in range(steps):
            moved = moved.clamp(0, 1).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(objective(network(moved)), moved)
            moved = moved.detach() + REACH * eps / steps * gradient.sign()
            moved = torch.minimum(torch.maximum(moved, x - eps), x + eps)
    return moved.clamp(0, 1).detach()


def _attack_objective(network: nn.Sequential, x: Tensor, y: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Return the function of logits (B, K) that an attack on x maximises."""
    if y is not None:
        return partial(functional.cross_entropy, target=y, reduction="sum")
    with torch.no_grad():
        clean = network(x).log_softmax(1)
    return lambda logits: functional.kl_div(logits.log_softmax(1), clean, log_target=True, reduction="sum")


@contextmanager
def _evaluating(network: nn.Sequential) -> Iterator[None]:
    """Put the network in evaluation mode (no dropout), and restore its mode afterwards."""
    training = network.training
    network.eval()
    yield
    network.train(training)


def _steepest(network: nn.Sequential, x: Tensor, y: Tensor, distance: float) -> Tensor:
    """Return x moved by this L2 distance along the gradient of the cross-entropy, clipped to [0, 1]."""
    probe = x.detach().requires_grad_()
    with _evaluating(network):
        (gradient,) = torch.autograd.grad(functional.cross_entropy(network(probe), y, reduction="sum"), probe)
    length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
    return (x + distance * gradient / length).clamp(0, 1)


def margin_loss(logits: Tensor, labels: Tensor, head: Tensor, radius: float, temperature: float) -> Tensor:
    """Cross-entropy of the worst logits that an L2 change of ``radius`` can cause in a network with 1-Lipschitz body.

    Each other class's logit is raised by radius times the distance of its row in the head from the right class's, as in
    GloRo networks (Leino et al., arXiv 2102.08452) and with the temperature of Prach and Lampert (arXiv 2208.03160).
    With radius 0 and temperature 1 it is plain cross-entropy.

    Args:
        logits: (B, classes).
        labels: (B,).
        head: weight of the last layer (classes, features), rows as the logits use them.
        radius: in pixel units.
        temperature: above 0.
    """
    if radius:
        logits = logits + radius * class_distances(head)[labels]
    return functional.cross_entropy(logits / temperature, labels) * temperature


def head_of(network: nn.Sequential) -> Tensor:
    """Return the last layer's weight (classes, features), after its constraint, if it has one."""
    head = network[-1]
    if isinstance(head, AolLinear | UnitRowLinear):
        return head.weight()
    assert isinstance(head, nn.Linear)
    return head.weight
