"""FGSM: the fast gradient sign method."""

from torch import Tensor

from gauntlet.attacks.base import Model, costs, loss, value_and_gradient
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import Threat


@costs(lambda _: 1)
def fgsm(
    model: Model, x: Tensor, y: Tensor, threat: Threat, *, generator: KeyedRandom, targeted: bool = False
) -> Tensor:
    """One step of size eps along the steepest ascent of the cross-entropy.

    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", arXiv 1412.6572; in L2 the
    gradient itself, scaled to eps. x (B, C, H, W) in [0, 1]; returns images of the same shape.
    """
    _, gradient = value_and_gradient(model, x, lambda logits: loss(logits, y, targeted))
    return threat.project(x, x + threat.radius * threat.steepest(gradient))
