"""Generative adversarial networks (Goodfellow et al., arXiv 1406.2661), K discriminator steps for each generator step.

Fully connected or DCGAN (Radford et al., arXiv 1511.06434). What may steady them: a gradient penalty on real images
(R1: Mescheder et al., arXiv 1801.04406), spectral normalisation (arXiv 1802.05957), learning rates that fall to zero,
and a moving average of the generator's weights (Yazici et al., arXiv 1806.04498).
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from gauntlet.manifest import MODEL_FILE, Metric, Positive
from training.data import Examples, TrainingData, augment, to_pixels
from training.export import Graph, Product
from training.generators import dcgan_discriminator, dcgan_generator, dense_discriminator, dense_generator
from training.judge import Judge, frechet_distance
from training.networks import Shape
from training.plots import beside_nearest, learning_curves, sheet
from training.run import JobConfig, Run, Stateful

STATISTICS = 50  # batches behind the batch normalisation of the averaged generator
PENALTY_EVERY = 16  # steps: as seldom, and as many times as strong, costs little (Karras et al., arXiv 1912.04958)

NOTES = {
    "dense": """\
A fully connected generative adversarial network (arXiv 1406.2661) with {discriminator_steps} discriminator steps for
each generator step, as in the student paper that this repository reproduces. Our choice: non-saturating loss, a
gradient penalty on real images (arXiv 1801.04406, weight {penalty}), batch normalisation in the generator, and a moving
average of its weights (decay {average}). `model.onnx` maps standard normal latents ({latent_dim} each) to images.

**Use it** to draw images. **Limit:** a fully connected network knows nothing of neighbouring pixels: expect grain.
""",
    "dcgan": """\
A convolutional generative adversarial network (DCGAN, arXiv 1511.06434) with {discriminator_steps} discriminator steps
for each generator step and the non-saturating loss. Spectral instead of batch normalisation in the discriminator (arXiv
1802.05957): {stabilised}; gradient penalty on real images (arXiv 1801.04406): {penalty}; decay of the moving average of
the generator's weights: {average}; learning rates that fall to zero: {falling}; epoch: {chosen}. `model.onnx` maps
standard normal latents ({latent_dim} each) to images.

**Use it** to draw images.
""",
}
JUDGED = """
Classes are counted by `{judge}`, whose last features also give distance, precision and recall: numbers of that
classifier, not FID.
"""
PICTURES = """
Samples as training went on, a row each at the epochs {epochs}:

![progress](progress.png)

Samples, each above the training image nearest to it in L2: copies would be seen.

![nearest training images](nearest.png)
"""


class GanConfig(JobConfig):
    """Every hyper-parameter of the adversarial training."""

    family: Literal["gan", "dcgan"] = "gan"
    network: Literal["dense", "dcgan"] = "dense"
    stabilised: bool = False  # dcgan: spectral instead of batch normalisation in the discriminator
    latent_dim: int
    width: int  # of the narrowest hidden layer of both networks, in features or channels
    batch_size: Positive
    discriminator_steps: int  # for each generator step
    generator_rate: float
    discriminator_rate: float
    beta1: float = 0.5
    penalty: float  # weight of the squared gradient at real images
    average: float  # decay of the moving average of the generator's weights, a generator step; less at the start
    falling: bool = True  # learning rates, linearly to zero
    chosen: Literal["best", "last"] = "best"  # the epoch that ships: by distance on the validation images, or the last
    flip: bool = False
    judge: str  # the artefact that counts the classes and chooses the epoch

    @property
    def builds_on(self) -> tuple[str, ...]:
        return (self.judge,)


class Snapshots:
    """A few samples of the same latents at a few epochs, kept in the checkpoint."""

    def __init__(self) -> None:
        self.images: dict[int, Tensor] = {}  # epoch -> (N, C, H, W)

    def state_dict(self) -> dict[str, Any]:
        return {str(epoch): images for epoch, images in self.images.items()}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.images = {int(epoch): images for epoch, images in state_dict.items()}


class Trained(NamedTuple):
    """What a run gives to be packaged."""

    generator: nn.Module
    snapshots: Snapshots


def build(config: GanConfig, shape: Shape) -> tuple[nn.Sequential, nn.Sequential]:
    """Generator and discriminator, untrained."""
    if config.network == "dense":
        generator = dense_generator(shape, config.latent_dim, config.width)
        return generator, dense_discriminator(shape, config.width)
    generator = dcgan_generator(shape, config.latent_dim, config.width)
    return generator, dcgan_discriminator(shape, config.width, stabilised=config.stabilised)


@dataclass(frozen=True)
class Player:
    """One of the two networks, and how it learns."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    @classmethod
    def of(cls, network: nn.Module, rate: float, config: GanConfig) -> "Player":
        optimizer = torch.optim.Adam(network.parameters(), rate, (config.beta1, 0.999))
        falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 - config.falling * done / config.epochs)
        return cls(network, optimizer, falling)

    def learn(self, loss: Tensor) -> None:
        """One step down the loss."""
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()

    def parts(self, name: str) -> dict[str, Stateful]:
        """All that changes as it learns."""
        return {name: self.network, f"{name}_optimizer": self.optimizer, f"{name}_schedule": self.schedule}


def train(config: GanConfig, data: TrainingData, run: Run) -> Trained:
    """Train, and give back the averaged generator of the best epoch on the CPU."""
    judge = Judge(run.artifacts / config.judge)
    real_features = judge.features(to_pixels(data.validation.images))
    torch.manual_seed(config.seed)
    networks = [network.to(run.device) for network in build(config, data.image_shape)]
    averaged = copy.deepcopy(networks[0]).requires_grad_(False).eval()
    generator = Player.of(networks[0], config.generator_rate, config)
    discriminator = Player.of(networks[1], config.discriminator_rate, config)
    images = data.train.images.to(run.device)
    steps = max(1, len(images) // config.batch_size)
    fixed, snapshots = latents(10, config, run.device), Snapshots()
    parts: dict[str, Stateful] = {"snapshots": snapshots, "averaged": averaged}
    parts |= generator.parts("generator") | discriminator.parts("discriminator")
    for epoch in run.epochs(parts, averaged, steps):
        losses = play(config, generator, discriminator, averaged, images, epoch, steps, run)
        for player in (generator, discriminator):
            player.schedule.step()
        if config.average:  # the batch statistics of the averaged weights
            update_bn([latents(config.batch_size, config, run.device) for _ in range(STATISTICS)], averaged)
        with torch.no_grad():
            fake = averaged(latents(len(real_features), config, run.device)).cpu()
        metrics = {
            "discriminator_loss": losses[0],
            "generator_loss": losses[1],
            "frechet_distance": frechet_distance(judge.features(fake), real_features),
            "min_class_share": float(judge.shares(fake).min()),
        }
        run.log(metrics, score=-metrics["frechet_distance"] if config.chosen == "best" else epoch)
        if epoch in snapshot_epochs(config.epochs):
            with torch.no_grad():
                snapshots.images[epoch] = averaged(fixed).cpu()

    averaged.load_state_dict(run.best)
    return Trained(averaged.cpu(), snapshots)


def play(
    config: GanConfig,
    generator: Player,
    discriminator: Player,
    averaged: nn.Module,
    images: Tensor,
    epoch: int,
    steps: int,
    run: Run,
) -> tuple[float, float]:
    """One epoch over the images (N, C, H, W): mean loss of the discriminator and of the generator."""
    generator.network.train()
    totals, turns = torch.zeros(2, device=run.device), -(-steps // config.discriminator_steps)
    for step, batch in enumerate(torch.randperm(len(images)).tensor_split(steps)):
        real = to_pixels(augment(images[batch], shift=0, flip=config.flip))  # (B, C, H, W)
        with torch.no_grad():
            fake = generator.network(latents(len(real), config, run.device))
        judged = discriminator.network(real), discriminator.network(fake)
        loss = functional.softplus(-judged[0]).mean() + functional.softplus(judged[1]).mean()
        totals[0] += loss.detach()
        if config.penalty and step % PENALTY_EVERY == 0:
            loss = loss + PENALTY_EVERY * config.penalty / 2 * steepness(discriminator.network, real)
        discriminator.learn(loss)
        if step % config.discriminator_steps == 0:
            fake = generator.network(latents(len(real), config, run.device))
            loss = functional.softplus(-discriminator.network(fake)).mean()
            generator.learn(loss)
            taken = (epoch - 1) * turns + step // config.discriminator_steps
            move_average(averaged, generator.network, min(config.average, (taken + 1) / (taken + 10)))
            totals[1] += loss.detach()
        run.step(loss.detach())
    return float(totals[0]) / steps, float(totals[1]) / turns


def latents(n: int, config: GanConfig, device: torch.device) -> Tensor:
    """Standard normal (n, latent_dim)."""
    return torch.randn(n, config.latent_dim).to(device)


def snapshot_epochs(epochs: Positive) -> list[int]:
    """Five epochs from the first to the last, in equal ratios."""
    return sorted({max(1, round(epochs ** (step / 4))) for step in range(5)})


def steepness(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Mean squared norm of the discriminator's gradient at real images (B, C, H, W), pixels taken from -1 to 1."""
    real = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return (slope / 2).square().flatten(1).sum(1).mean()


@torch.no_grad()
def move_average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Move weights towards the network's."""
    for mean, value in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def package(trained: Trained, config: GanConfig, data: TrainingData, run: Run, test: Examples) -> Product:
    """The artefact: the generator, and its distance from the test set, which nothing has looked at before."""
    generator, snapshots = trained
    chosen = torch.randn(100, config.latent_dim, generator=torch.Generator().manual_seed(config.seed))
    with torch.no_grad():
        samples = generator(chosen)

    def measure(folder: Path) -> dict[str, Metric]:
        judge = Judge(run.artifacts / config.judge)
        path = folder / MODEL_FILE
        return judge.quality(path, config.latent_dim, test) | judge.coverage(path, config.latent_dim)

    return Product(
        graph=Graph(generator, chosen[:8], "latents", "images"),
        pictures={
            "curves.png": learning_curves(
                run.history,
                {
                    "losses": ["discriminator_loss", "generator_loss"],
                    "Frechet distance": ["frechet_distance"],
                    "share of the rarest class": ["min_class_share"],
                },
            ),
            "samples.png": sheet(samples, 10),
            "progress.png": sheet(torch.cat([images for _, images in sorted(snapshots.images.items())]), 10),
            "nearest.png": beside_nearest(samples[:20], data),
        },
        manifest={
            "kind": "generator",
            "family": config.family,
            "dataset": config.dataset,
            "latent_dim": config.latent_dim,
            "output_shape": data.image_shape,
        },
        measure=measure,
        notes=(NOTES[config.network] + JUDGED).format(**config.model_dump())
        + PICTURES.format(epochs=", ".join(map(str, sorted(snapshots.images)))),
    )
