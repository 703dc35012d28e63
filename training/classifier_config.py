"""Every hyper-parameter of a classifier's training, validated against the parameters of its network and objective."""

from collections.abc import Callable
from typing import Any, Literal, Self

from pydantic import model_validator
from torch import Tensor, nn

from gauntlet.artifacts.manifest import Positive
from training import attack_metrics
from training.data import TrainingData
from training.families import FAMILIES, NETWORKS, OBJECTIVES, PROBABILITIES, hyperparameters
from training.run import JobConfig


class ClassifierConfig(JobConfig):
    """``family``, ``network`` and ``objective`` are names in ``training.families``."""

    family: str
    network: str
    filters: tuple[int, ...] = ()  # of the convolutions of the paper's network
    blocks: tuple[int, ...] = ()  # convolutions per block of the constrained network ...
    width: int = 0  # ... channels of its first block ...
    features: int = 0  # ... and of its dense layers, or of the interval network's
    dropout: float = 0.0
    batch_size: Positive = 256
    learning_rate: float  # of AdamW, the maximum of the one-cycle schedule
    weight_decay: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"  # of convolutions and dense layers, in training alone
    shift: int = 0  # augmentation: moves of up to this many pixels
    flip: bool = False
    objective: str = "margin"
    radius: float = 0.0  # margin: L2 distance between image and decision boundary at which the loss aims
    temperature: float = 1.0  # margin: of the softmax in the loss; a small one gives weight to hard images only
    eps: float = (
        0.0  # adversarial, trades: Linf distance of the attack; penalty: L2 of a pair; interval: Linf of the proof
    )
    steps: int = 0  # adversarial, trades: steps of the attack
    penalty: float = 0.0  # penalty, trades, interval: weight of the second term
    warm_up: float = 0.0  # interval: share of the training in which eps rises
    eps_ratio: float = 1.0  # interval: eps of the training over that of the proof
    clean_weight: float = 0.0  # interval: weight of the cross-entropy without bounds; the one with bounds has the rest
    sigma: float = 0.0  # noise: standard deviation of the Gaussian noise
    selected_by: Literal[
        "accuracy",
        "certified_accuracy_36",
        "certified_accuracy_1.58",
        "certified_accuracy_linf",
        "robust_accuracy",
        "noisy_accuracy",
    ] = "accuracy"  # metric on the validation images that chooses the epoch to export

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse a missing hyper-parameter of the network or the objective, and one that neither uses."""
        for field, known in (("family", FAMILIES), ("network", NETWORKS), ("objective", OBJECTIVES)):
            if getattr(self, field) not in known:
                raise ValueError(f"{field} is none of {', '.join(known)}")
        required = hyperparameters(NETWORKS[self.network].build) | hyperparameters(OBJECTIVES[self.objective].loss)
        for field in sorted(_hyperparameters()):
            given = getattr(self, field) != type(self).model_fields[field].default
            if field not in required and given:
                raise ValueError(f"{field} is not used by {self.network} and the objective {self.objective}")
            if required.get(field) and not given:
                raise ValueError(f"{field} is needed by {self.network} and the objective {self.objective}")
        if self.certified and self.precision != "float32":
            raise ValueError(f"{self.network} holds its norms in float32 only, not in {self.precision}")
        self.notes()
        return self

    @property
    def certified(self) -> bool:
        """Whether the network's Lipschitz constant is bounded by construction."""
        return NETWORKS[self.network].certified

    def build(self, data: TrainingData) -> nn.Sequential:
        """Return the untrained network: images (B, C, H, W) in [0, 1] to logits (B, K)."""
        build = NETWORKS[self.network].build
        return build(data.image_shape, len(data.classes), data.mean, data.std, **self._for(build))

    def loss(self, network: nn.Sequential, x: Tensor, y: Tensor, progress: float) -> Tensor:
        """Compute the loss of images (B, C, H, W) with labels (B,); ``progress`` is the share of the training done."""
        objective = OBJECTIVES[self.objective]
        given = (x, y, progress) if objective.scheduled else (x, y)
        return objective.loss(network, *given, **self._for(objective.loss))

    def notes(self) -> str:
        """Return the card's text about design, use and limits."""
        parts = (NETWORKS[self.network].design, FAMILIES[self.family].purpose, PROBABILITIES)
        return "\n".join(parts).format(**self.model_dump(), **attack_metrics.CERTIFY)

    def _for(self, function: Callable[..., Any]) -> dict[str, Any]:
        return {name: getattr(self, name) for name in hyperparameters(function)}


def _hyperparameters() -> set[str]:
    """Return the hyper-parameter names of all networks and objectives."""
    functions = [*(spec.build for spec in NETWORKS.values()), *(spec.loss for spec in OBJECTIVES.values())]
    return {name for function in functions for name in hyperparameters(function)}
