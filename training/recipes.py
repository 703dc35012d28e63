"""The recipes of all models that this repository trains: name, training function, hyper-parameters.

In an order in which they can be trained: a generator is evaluated with the standard classifier of its data set.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from training import classifier, gan, gan_export, vae
from training.classifier_config import ClassifierConfig
from training.export import Product
from training.gan import GanConfig
from training.run import JobConfig
from training.vae import VaeConfig


class Recipe(NamedTuple):
    """A training job: the function that trains, the one that makes an artefact of the result, the hyper-parameters."""

    train: Callable[..., Any]
    package: Callable[..., Product]
    config: JobConfig


# The student paper's network, and its augmentation.
MNIST: dict[str, Any] = {"dataset": "mnist", "filters": (64, 128), "batch_size": 128}
FASHION: dict[str, Any] = {"dataset": "fashion-mnist", "filters": (64, 128), "batch_size": 128, "flip": True}
CIFAR: dict[str, Any] = {"dataset": "cifar10", "filters": (32, 64, 128), "batch_size": 128, "shift": 2, "flip": True}

# The constrained network, and its control: the same architecture without the constraint, for comparison.
CERTIFIED: dict[str, Any] = {"family": "lipschitz", "network": "lipschitz-cnn", "width": 48, "learning_rate": 3e-3}
CONTROL: dict[str, Any] = {
    "family": "standard",
    "network": "unconstrained-cnn",
    "width": 48,
    "learning_rate": 2e-3,
    "weight_decay": 1e-2,
}
CERTIFIED_MNIST: dict[str, Any] = {"dataset": "mnist", "blocks": (3, 2), "features": 256}
CERTIFIED_FASHION: dict[str, Any] = {"dataset": "fashion-mnist", "blocks": (3, 2), "features": 256, "flip": True}
CERTIFIED_CIFAR: dict[str, Any] = {
    "dataset": "cifar10",
    "blocks": (3, 3),
    "features": 384,
    "shift": 3,
    "flip": True,
}

UNDEFENDED: dict[str, Any] = {"family": "standard", "network": "paper-cnn", "learning_rate": 2e-3}
PENALISED: dict[str, Any] = {
    "family": "penalty",
    "network": "paper-cnn",
    "objective": "penalty",
    "learning_rate": 2e-3,
    "weight_decay": 1e-2,
    "penalty": 0.02,
}
ADVERSARIAL: dict[str, Any] = {
    "family": "adversarial",
    "network": "paper-cnn",
    "learning_rate": 1e-3,
    "weight_decay": 1e-3,
    "selected_by": "robust_accuracy",
}
SMOOTHED: dict[str, Any] = {
    "family": "smoothed",
    "network": "paper-cnn",
    "objective": "noise",
    "learning_rate": 2e-3,
    "weight_decay": 1e-2,
    "selected_by": "noisy_accuracy",
}
CONSTRAINED_PAPER: dict[str, Any] = {
    "family": "lipschitz-paper",
    "network": "constrained-paper-cnn",
    "learning_rate": 2e-3,
    "radius": 0.1,
    "temperature": 0.05,
    "selected_by": "certified_accuracy_36",
}

INTERVAL: dict[str, Any] = {
    "family": "interval",
    "network": "interval-cnn",
    "objective": "interval",
    "batch_size": 128,
    "features": 256,
    "learning_rate": 1e-3,
    "penalty": 0.5,
    "selected_by": "certified_accuracy_linf",
}

CLASSIFIERS = (
    # Without a defence. The controls have another seed: they are the baseline for transferred adversarial examples.
    ClassifierConfig(name="mnist-standard", **MNIST, **UNDEFENDED, epochs=12, weight_decay=1e-2, dropout=0.4, shift=2),
    ClassifierConfig(name="fashion-mnist-standard", **FASHION, **UNDEFENDED, epochs=16, weight_decay=1e-2, dropout=0.4),
    ClassifierConfig(
        name="fashion-mnist-standard-control",
        **FASHION,
        **UNDEFENDED,
        epochs=16,
        seed=1,
        weight_decay=1e-2,
        dropout=0.4,
    ),
    ClassifierConfig(name="cifar10-standard", **CIFAR, **UNDEFENDED, epochs=60, weight_decay=2e-2, dropout=0.25),
    ClassifierConfig(  # a third of the epochs: a control need not be as good
        name="cifar10-standard-control", **CIFAR, **UNDEFENDED, epochs=20, seed=1, weight_decay=2e-2, dropout=0.25
    ),
    # Constrained and certified, each with its control.
    ClassifierConfig(
        name="mnist-lipschitz",
        **CERTIFIED_MNIST,
        **CERTIFIED,
        epochs=15,
        radius=1.5,
        temperature=0.25,
        selected_by="certified_accuracy_1.58",
    ),
    ClassifierConfig(name="mnist-lipschitz-control", **CERTIFIED_MNIST, **CONTROL, epochs=8),
    ClassifierConfig(
        name="fashion-mnist-lipschitz",
        **CERTIFIED_FASHION,
        **CERTIFIED,
        epochs=16,
        radius=0.2,
        temperature=0.1,
        selected_by="certified_accuracy_36",
    ),
    ClassifierConfig(name="fashion-mnist-lipschitz-control", **CERTIFIED_FASHION, **CONTROL, epochs=10),
    ClassifierConfig(
        name="cifar10-lipschitz",
        **CERTIFIED_CIFAR,
        **CERTIFIED,
        epochs=25,
        radius=0.2,
        temperature=0.15,
        selected_by="certified_accuracy_36",
    ),
    ClassifierConfig(  # at CONTROL's rate it diverges
        name="cifar10-lipschitz-control", **CERTIFIED_CIFAR, **{**CONTROL, "learning_rate": 5e-4}, epochs=20
    ),
    # The paper's own network with every layer constrained.
    ClassifierConfig(name="fashion-mnist-lipschitz-paper", **FASHION, **CONSTRAINED_PAPER, epochs=10),
    ClassifierConfig(name="cifar10-lipschitz-paper", **CIFAR, **CONSTRAINED_PAPER, epochs=25),
    # The paper's network with a penalty on the ratio of its eq. 10.
    ClassifierConfig(name="fashion-mnist-penalty", **FASHION, **PENALISED, epochs=8, dropout=0.2, eps=0.5),
    ClassifierConfig(name="cifar10-penalty", **CIFAR, **PENALISED, epochs=20, dropout=0.1, eps=0.25),
    # The paper's network, trained on attacked images.
    ClassifierConfig(
        name="mnist-adversarial", **MNIST, **ADVERSARIAL, epochs=12, objective="adversarial", eps=0.3, steps=5
    ),
    ClassifierConfig(
        name="fashion-mnist-adversarial",
        **FASHION,
        **ADVERSARIAL,
        epochs=10,
        objective="adversarial",
        eps=0.1,
        steps=4,
    ),
    ClassifierConfig(
        name="cifar10-adversarial",
        **CIFAR,
        **ADVERSARIAL,
        epochs=25,
        objective="trades",
        eps=8 / 255,
        steps=3,
        penalty=6.0,
    ),
    # The paper's network, trained on noisy images, to be smoothed.
    ClassifierConfig(name="fashion-mnist-smoothed", **FASHION, **SMOOTHED, epochs=16, sigma=0.25),
    # Trained for interval bounds: certified in Linf.
    ClassifierConfig(
        name="fashion-mnist-interval",
        dataset="fashion-mnist",
        **INTERVAL,
        filters=(32, 64),
        flip=True,
        epochs=20,
        warm_up=0.5,
        eps=0.1,
    ),
    ClassifierConfig(
        name="mnist-interval",
        dataset="mnist",
        **INTERVAL,
        filters=(32, 64),
        epochs=50,
        warm_up=0.5,
        eps=0.3,
        eps_ratio=1.1,
    ),
    ClassifierConfig(
        name="cifar10-interval",
        dataset="cifar10",
        **INTERVAL,
        filters=(32, 64),
        flip=True,
        epochs=12,
        warm_up=0.4,
        eps=2 / 255,
    ),
)

ENCODED: dict[str, Any] = {"epochs": 16, "width": 32, "batch_size": 128, "learning_rate": 2e-3, "beta": 0.5}

VAES = (
    VaeConfig(name="mnist-vae", dataset="mnist", judge="mnist-standard", **ENCODED, latent_dim=10, sharpness=2.0),
    VaeConfig(
        name="fashion-mnist-vae",
        dataset="fashion-mnist",
        judge="fashion-mnist-standard",
        **ENCODED,
        latent_dim=10,
        sharpness=2.5,
    ),
    VaeConfig(name="cifar10-vae", dataset="cifar10", judge="cifar10-standard", **ENCODED, latent_dim=10, flip=True),
    VaeConfig(
        name="cifar10-vae-128", dataset="cifar10", judge="cifar10-standard", **ENCODED, latent_dim=128, flip=True
    ),
)

ON_MNIST: dict[str, Any] = {"dataset": "mnist", "judge": "mnist-standard"}
ON_FASHION: dict[str, Any] = {"dataset": "fashion-mnist", "judge": "fashion-mnist-standard"}
ON_CIFAR: dict[str, Any] = {"dataset": "cifar10", "judge": "cifar10-standard", "flip": True}
DENSE: dict[str, Any] = {
    "epochs": 60,
    "latent_dim": 64,
    "batch_size": 64,
    "discriminator_steps": 4,
    "generator_rate": 2e-3,
    "discriminator_rate": 8e-4,
    "penalty": 5.0,
    "average": 0.998,
}
DCGAN: dict[str, Any] = {
    "family": "dcgan",
    "network": "dcgan",
    "width": 32,
    "batch_size": 64,
    "discriminator_steps": 4,
    "penalty": 0.0,
}
STEADIED: dict[str, Any] = {
    "stabilised": True,
    "generator_rate": 4e-3,  # five times the discriminator's, which does four steps for each generator step
    "discriminator_rate": 8e-4,
    "average": 0.998,
}
AS_PUBLISHED: dict[str, Any] = {
    "stabilised": False,
    "generator_rate": 2e-4,
    "discriminator_rate": 2e-4,
    "average": 0.0,
    "falling": 0.0,
    "chosen": "last",
}

CONDITIONAL: dict[str, Any] = {
    "family": "dcgan",
    "network": "conditional",
    "loss": "hinge",
    "batch_size": 32,
    "discriminator_steps": 1,
    "generator_rate": 1e-3,
    "discriminator_rate": 1e-3,
    "beta1": 0.5,
    "penalty": 0.0,
    "average": 0.999,
    "falling": 0.5,
}

GANS = (
    GanConfig(name="mnist-gan", **ON_MNIST, **CONDITIONAL, epochs=2, latent_dim=64, width=16),
    GanConfig(name="mnist-dense-gan", **ON_MNIST, **DENSE, width=256),
    GanConfig(name="fashion-mnist-gan", **ON_FASHION, **CONDITIONAL, epochs=5, latent_dim=64, width=16),
    GanConfig(name="fashion-mnist-dense-gan", **ON_FASHION, **DENSE, width=256),
    GanConfig(name="cifar10-gan", **ON_CIFAR, **DENSE, width=128),
    GanConfig(name="mnist-dcgan-plain", **ON_MNIST, **DCGAN, **AS_PUBLISHED, epochs=12, latent_dim=64),
    GanConfig(name="mnist-dcgan", **ON_MNIST, **DCGAN, **STEADIED, epochs=24, latent_dim=64),
    GanConfig(name="cifar10-dcgan", **ON_CIFAR, **DCGAN, **STEADIED, epochs=25, latent_dim=128),
    GanConfig(name="cifar10-conditional-gan", **ON_CIFAR, **CONDITIONAL, epochs=11, latent_dim=128, width=16),
)

RECIPES: dict[str, Recipe] = (
    {config.name: Recipe(classifier.train, classifier.package, config) for config in CLASSIFIERS}
    | {config.name: Recipe(vae.train, vae.package, config) for config in VAES}
    | {config.name: Recipe(gan.train, gan_export.package, config) for config in GANS}
)
