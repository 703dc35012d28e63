"""The registries of networks, objectives and families from which a classifier's configuration chooses.

The hyper-parameters of a network or an objective are the keyword parameters of its function: those without a default
must be given, and those that neither function takes must be left out. ``ClassifierConfig`` checks this when it is
created, so that a mistake is reported before anything is trained.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from training import classifier_objectives, networks


@dataclass(frozen=True)
class Network:
    """``build(shape, classes, mean, std, **hyper-parameters)`` returns it untrained; ``design`` is for the card."""

    build: Callable[..., nn.Sequential]
    design: str
    certified: bool = False  # its Lipschitz constant is bounded by construction


@dataclass(frozen=True)
class Objective:
    """``loss(network, x, y, **hyper-parameters)`` returns the loss of one batch."""

    loss: Callable[..., Tensor]
    scheduled: bool = False  # takes the share of the training that is done as an argument after y


@dataclass(frozen=True)
class Family:
    """``purpose`` is for the card: training, use and limits of the model."""

    purpose: str


NETWORKS: Mapping[str, Network] = {
    "paper-cnn": Network(
        networks.paper_cnn,
        """\
The convolutional network of the student paper that this repository reproduces: convolutions with {filters} filters of
2x2, a dense layer of 256, dropout {dropout}. Our choice, where the paper is silent: padding 1, 2x2 max-pooling and ReLU
after each convolution.""",
    ),
    "constrained-paper-cnn": Network(
        networks.constrained_paper_cnn,
        """\
The convolutional network of the student paper, convolutions with {filters} filters of 2x2 and a dense layer of 256,
with the norm of every layer held at 1 or below by scaling its channels (AOL, arXiv 2208.03160), the last one included:
what the paper says that it did, made so that it can be proved.""",
        certified=True,
    ),
    "lipschitz-cnn": Network(
        networks.lipschitz_cnn,
        """\
A plain chain of orthogonal convolutions (BCOP, arXiv 1911.00937; blocks of {blocks}, {width} channels in the first) and
orthogonal dense layers (Cayley transform, arXiv 2104.07167) with MaxMin activations (arXiv 1811.05381) and a head with
rows of norm 1 (arXiv 2108.04062): moving an image by d in L2 moves its features by at most d.""",
        certified=True,
    ),
    "unconstrained-cnn": Network(
        partial(networks.lipschitz_cnn, constrained=False),
        """\
The architecture of the Lipschitz-constrained network (blocks of {blocks}, {width} channels in the first, MaxMin
activations) made of ordinary layers: what the constraint costs and buys is the difference between the two.""",
    ),
    "interval-cnn": Network(
        networks.interval_cnn,
        """\
Convolutions of 4x4 with stride 2 and {filters} channels, a dense layer of {features}, ReLU: few layers, because each
one widens the intervals. Weights begin as in arXiv 2103.17268.""",
    ),
}

OBJECTIVES: Mapping[str, Objective] = {
    "margin": Objective(classifier_objectives.margin),
    "penalty": Objective(classifier_objectives.penalty),
    "adversarial": Objective(classifier_objectives.adversarial),
    "trades": Objective(classifier_objectives.trades),
    "noise": Objective(classifier_objectives.noise),
    "interval": Objective(classifier_objectives.interval_bounds, scheduled=True),
}

LIPSCHITZ = Family("""\
Trained with every rival logit raised by what a move of {radius} could do, softmax temperature {temperature}. The
certified radius is the smallest (z_t - z_j) / (L ||w_t - w_j||) over the other classes j, with L proved from the
exported weights.

**Use it** where an answer must come with a guarantee. **Limits:** the guarantee is for L2 distance only, and says that
the answer will not change, not that it is right.
""")

FAMILIES: Mapping[str, Family] = {
    "standard": Family("""\
Trained with cross-entropy, without any defence.

**Use it** as an undefended reference. **Limit:** imperceptible changes make it give any answer.
"""),
    "lipschitz": LIPSCHITZ,
    "lipschitz-paper": LIPSCHITZ,
    "penalty": Family("""\
Trained with cross-entropy and {penalty} times the mean squared ratio |f(x) - f(x')| / |x - x'| of eq. 10 of the student
paper (after arXiv 1811.09008). Our reading of what it leaves open: f are the logits, and x' is x moved by {eps} in L2
along the gradient of the loss.

**Use it** to see what a penalty buys. **Limit:** no certificate follows from it; the attacks are its only judges.
"""),
    "adversarial": Family("""\
Trained against what {steps} steps of PGD find within Linf {eps:.4g} (objective: {objective}; arXiv 1706.06083,
arXiv 1901.08573).

**Use it** as the field's usual defence. **Limit:** empirical, and for that distance: nothing is proved.
"""),
    "smoothed": Family("""\
Trained on images with Gaussian noise of deviation {sigma} (arXiv 1902.02918), for randomized smoothing. The figures
that begin with `smoothed_` are of the smoothed classifier, which answers what this network says most often under that
noise: by the algorithm CERTIFY, {samples} draws an image, wrong with probability {alpha} at most, image by image. An
image on which it abstains counts as wrong. All other figures are of the network itself.

**Use it** smoothed, where an answer must come with a guarantee. **Limits:** the guarantee is for L2 distance only,
holds but for that probability, and costs thousands of passes through the network.
"""),
    "interval": Family("""\
Trained with the cross-entropy of the worst logits that interval arithmetic allows within Linf {eps:.4g} (IBP, arXiv
1810.12715), a distance that rises from 0 over the first {warm_up} of the training, with the regularisers of arXiv
2103.17268; the cross-entropy of the images themselves has a weight of {clean_weight}. The figures
`certified_accuracy_linf` are proved from the exported file, rounding included, by interval arithmetic and, where that
does not suffice, by CROWN (arXiv 1811.00866): no image within that distance has another class.

**Use it** where an answer must come with a guarantee in Linf. **Limits:** the guarantee says that the answer will not
change, not that it is right; and it costs accuracy.
"""),
}

PROBABILITIES = """\
Probabilities are softmax(logits / temperature), with a temperature fitted on the validation images (arXiv 1706.04599);
it changes no label, margin or certificate. How often predictions of each probability are right, on the test set:

![reliability](reliability.png)
"""


def hyperparameters(function: Callable[..., Any]) -> dict[str, bool]:
    """Return the keyword parameters of a network's or an objective's function: name, and whether it is required."""
    return {
        name: parameter.default is parameter.empty
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "constrained"
    }
