"""Every model that this repository trains: its name, its training function, its hyper-parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

from training import classifier, gan, vae
from training.export import Product
from training.run import JobConfig


class Recipe(NamedTuple):
    """A job: what trains it, what makes an artefact of the result, and with what hyper-parameters."""

    train: Callable[..., Any]
    package: Callable[..., Product]
    config: JobConfig


RECIPES: dict[str, Recipe] = {
    "fashion-mnist-standard": Recipe(
        classifier.train,
        classifier.package,
        classifier.ClassifierConfig(
            name="fashion-mnist-standard",
            family="standard",
            network="standard-cnn",
            epochs=20,
            batch_size=128,
            learning_rate=2e-3,
            weight_decay=1e-2,
            dropout=0.4,
        ),
    ),
    "fashion-mnist-lipschitz": Recipe(
        classifier.train,
        classifier.package,
        classifier.ClassifierConfig(
            name="fashion-mnist-lipschitz",
            family="lipschitz",
            network="lipschitz-cnn",
            width=48,
            epochs=10,
            batch_size=256,
            learning_rate=3e-3,
            radius=0.25,
            temperature=0.1,
        ),
    ),
    "fashion-mnist-vae": Recipe(
        vae.train,
        vae.package,
        vae.VaeConfig(
            name="fashion-mnist-vae",
            epochs=16,
            latent_dim=10,
            width=32,
            batch_size=128,
            learning_rate=2e-3,
            beta=0.5,
        ),
    ),
    "fashion-mnist-gan": Recipe(
        gan.train,
        gan.package,
        gan.GanConfig(
            name="fashion-mnist-gan",
            epochs=60,
            latent_dim=64,
            width=256,
            batch_size=64,
            discriminator_steps=4,
            generator_rate=2e-3,
            discriminator_rate=8e-4,
            penalty=5.0,
            average=0.998,
        ),
    ),
}
