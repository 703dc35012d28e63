"""Images drawn from generators."""

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gauntlet import per_sample_random_numpy
from gauntlet.runtime.served import ServedGenerator
from service.errors import Code, ServiceError
from service.observability import metrics

Floats = NDArray[np.float32]
DEFAULT_N = 16


@dataclass(frozen=True)
class Generated:
    """Image i came from latent i."""

    images: Floats  # (n, C, H, W)
    latents: Floats  # (n, D)
    seed: int | None  # None: the latents were given


def from_seed(model: ServedGenerator, n: int, seed: int | None) -> Generated:
    """N images. Image i depends on the seed and i alone, whatever n is; None: a seed is drawn."""
    seed = secrets.randbelow(2**32) if seed is None else seed
    latents = per_sample_random_numpy.normal(seed, n, 0, model.manifest.latent_dim)
    return Generated(generate(model, latents, "/generate"), latents, seed)


def from_latents(model: ServedGenerator, values: list[list[float]]) -> Generated:
    """Raises ServiceError ``invalid`` with the field of what is no latent of this model."""
    size = model.manifest.latent_dim
    for i, latent in enumerate(values):
        if len(latent) != size:
            message = f"latents.{i}: the model's latents have {size} numbers, this one has {len(latent)}"
            raise ServiceError(Code.INVALID, message, field=f"latents.{i}")
    latents = np.array(values, dtype=np.float32)
    return Generated(generate(model, latents, "/generate"), latents, None)


def generate(model: ServedGenerator, latents: Floats, route: str, field: str = "latents") -> Floats:
    """Latents (n, D) to images (n, C, H, W) in [0, 1], counted under ``route``.

    Raises ServiceError ``invalid`` for a latent that is too large for the model.
    """
    images = model.generate(latents)
    lost = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
    if len(lost):
        message = f"{field}.{lost[0]}: the model's image of it is not finite; latents of this model are around 0"
        raise ServiceError(Code.INVALID, message, field=f"{field}.{lost[0]}")
    metrics.IMAGES.labels(model.name, route).inc(len(images))
    return images
