"""Generative adversarial networks (Goodfellow et al., arXiv 1406.2661), K discriminator steps for each generator step.

Fully connected, DCGAN (Radford et al., arXiv 1511.06434) or class-conditional (``conditional.py``). Options that
stabilise the training: a gradient penalty on real images (R1: Mescheder et al., arXiv 1801.04406), spectral
normalisation (arXiv 1802.05957), learning rates that fall to zero, and a moving average of the generator's weights
(Yazici et al., arXiv 1806.04498).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.optim.swa_utils import update_bn

from gauntlet.artifacts.manifest import Positive
from training.conditional import CLASSES, ConditionalGenerator, ProjectionDiscriminator, one_hot_class
from training.data import TrainingData, augment, to_pixels
from training.generation_metrics import Judge, frechet_distance
from training.generators import dcgan_discriminator, dcgan_generator, dense_discriminator, dense_generator
from training.networks import Shape
from training.run import JobConfig, Run, Stateful

LAYOUT = torch.channels_last  # of weights and images: convolutions are up to twice as fast on a CPU
STATISTICS = 50  # batches from which the batch statistics of the averaged generator are computed
PENALTY_EVERY = 16  # steps between two penalties, each 16 times as strong: cheaper (Karras et al., arXiv 1912.04958)


class GanConfig(JobConfig):
    """Every hyper-parameter of the adversarial training."""

    family: Literal["gan", "dcgan"] = "gan"
    network: Literal["dense", "dcgan", "conditional"] = "dense"
    loss: Literal["logistic", "hinge"] = "logistic"
    stabilised: bool = False  # dcgan: spectral instead of batch normalisation in the discriminator
    latent_dim: int
    width: int  # of the narrowest hidden layer of both networks, in features or channels
    batch_size: Positive
    discriminator_steps: int  # for each generator step
    generator_rate: float
    discriminator_rate: float
    beta1: float = 0.5
    penalty: float  # weight of the squared gradient at real images
    average: float  # decay per generator step of the moving average of the generator's weights; lower at the start
    falling: float = 1.0  # the last share of the epochs, in which learning rates fall to zero
    chosen: Literal["best", "last"] = "best"  # epoch to export: by Frechet distance on validation images, or the last
    flip: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"  # of both networks' layers, in training alone
    judge: str  # artefact of the classifier that counts the classes of samples and measures the Frechet distance

    @property
    def builds_on(self) -> tuple[str, ...]:
        return (self.judge,)


class Snapshots:
    """Samples from the same few latents at several epochs, stored in the checkpoint."""

    def __init__(self) -> None:
        self.images: dict[int, Tensor] = {}  # epoch -> (N, C, H, W)

    def state_dict(self) -> dict[str, Any]:
        return {str(epoch): images for epoch, images in self.images.items()}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.images = {int(epoch): images for epoch, images in state_dict.items()}


class Trained(NamedTuple):
    """The result of a training run: the input of ``gan_export.package``."""

    generator: nn.Module
    snapshots: Snapshots


def build(config: GanConfig, shape: Shape) -> tuple[nn.Module, nn.Module]:
    """Return generator and discriminator, untrained."""
    if config.network == "conditional":
        drawing = ConditionalGenerator(shape, config.latent_dim, config.width)
        return drawing, ProjectionDiscriminator(shape, config.width)
    if config.network == "dense":
        return dense_generator(shape, config.latent_dim, config.width), dense_discriminator(shape, config.width)
    generator = dcgan_generator(shape, config.latent_dim, config.width)
    return generator, dcgan_discriminator(shape, config.width, stabilised=config.stabilised)


@dataclass(frozen=True)
class Player:
    """One of the two networks, with its optimiser and learning rate schedule."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    @classmethod
    def of(cls, network: nn.Module, rate: float, config: GanConfig) -> "Player":
        optimizer = torch.optim.Adam(network.parameters(), rate, (config.beta1, 0.999))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: rate_factor(done / config.epochs, config))
        return cls(network, optimizer, schedule)

    def learn(self, loss: Tensor) -> None:
        """Do one optimiser step on the loss."""
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()

    def parts(self, name: str) -> dict[str, Stateful]:
        """Return the stateful parts for the checkpoint, by name."""
        return {name: self.network, f"{name}_optimizer": self.optimizer, f"{name}_schedule": self.schedule}


def train(config: GanConfig, data: TrainingData, run: Run) -> Trained:
    """Train, and return the averaged generator of the chosen epoch on the CPU."""
    judge = Judge(run.artifacts / config.judge)
    real_features = judge.features(to_pixels(data.validation.images))
    torch.manual_seed(config.seed)
    networks = [network.to(run.device).to(memory_format=LAYOUT) for network in build(config, data.image_shape)]
    averaged = copy.deepcopy(networks[0]).requires_grad_(False).eval()
    generator = Player.of(networks[0], config.generator_rate, config)
    discriminator = Player.of(networks[1], config.discriminator_rate, config)
    images, labels = data.train.images.to(run.device), data.train.labels.to(run.device)
    steps = max(1, len(images) // config.batch_size)
    fixed, snapshots = latents(10, config, run.device), Snapshots()
    parts: dict[str, Stateful] = {"snapshots": snapshots, "averaged": averaged}
    parts |= generator.parts("generator") | discriminator.parts("discriminator")
    for epoch in run.epochs(parts, averaged, steps):
        losses = play(config, generator, discriminator, averaged, (images, labels), epoch, steps, run)
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
    examples: tuple[Tensor, Tensor],
    epoch: int,
    steps: int,
    run: Run,
) -> tuple[float, float]:
    """Train for one epoch on images (N, C, H, W) and labels (N,); return the mean losses: discriminator, generator."""
    generator.network.train()
    images, labels = examples
    totals, turns = torch.zeros(2, device=run.device), -(-steps // config.discriminator_steps)
    for step, batch in enumerate(torch.randperm(len(images)).tensor_split(steps)):
        real = to_pixels(augment(images[batch], shift=0, flip=config.flip))  # (B, C, H, W)
        its_turn = step % config.discriminator_steps == 0
        drawn = latents(len(real), config, run.device)
        classes = one_hot_class(drawn)
        with torch.set_grad_enabled(its_turn), mixed(config, run.device):
            fake = generator.network(drawn).float()
        known = functional.one_hot(labels[batch], CLASSES).to(classes.dtype)
        judge = partial(score, config, discriminator.network)
        with parametrize.cached():  # computes the spectral norms once for both calls
            loss = discriminator_loss(config, judge(known, real), judge(classes, fake.detach()))
        totals[0] += loss.detach()
        if config.penalty and step % PENALTY_EVERY == 0:
            loss = loss + PENALTY_EVERY * config.penalty / 2 * steepness(partial(judge, known), real)
        discriminator.learn(loss)
        if its_turn:
            discriminator.network.requires_grad_(False)
            loss = generator_loss(config, judge(classes, fake))
            generator.learn(loss)
            discriminator.network.requires_grad_(True)
            generator_steps = (epoch - 1) * turns + step // config.discriminator_steps
            decay = min(config.average, (generator_steps + 1) / (generator_steps + 10))
            move_average(averaged, generator.network, decay)
            totals[1] += loss.detach()
        run.step(loss.detach())
    return float(totals[0]) / steps, float(totals[1]) / turns


def score(config: GanConfig, discriminator: nn.Module, classes: Tensor, images: Tensor) -> Tensor:
    """Compute the discriminator's scores (B, 1) of images (B, C, H, W) with one-hot classes (B, CLASSES)."""
    images = images.contiguous(memory_format=LAYOUT)
    with mixed(config, images.device):
        scores: Tensor = discriminator(images, classes) if config.network == "conditional" else discriminator(images)
    return scores.float()


def mixed(config: GanConfig, device: torch.device) -> torch.autocast:
    """Compute layers in bfloat16 if the recipe says so; weights, losses and optimiser steps stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")


def discriminator_loss(config: GanConfig, real: Tensor, fake: Tensor) -> Tensor:
    """Compute the loss from scores (B, 1): logistic, or hinge (Lim and Ye, "Geometric GAN", arXiv 1705.02894)."""
    if config.loss == "hinge":
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_loss(config: GanConfig, fake: Tensor) -> Tensor:
    """Compute the loss from the scores (B, 1) of generated images: non-saturating logistic, or hinge."""
    return -fake.mean() if config.loss == "hinge" else functional.softplus(-fake).mean()


def rate_factor(done: float, config: GanConfig) -> float:
    """Return the factor of the learning rates when the share ``done`` of the epochs is done."""
    return min(1.0, (1 - done) / config.falling) if config.falling else 1.0


def latents(n: int, config: GanConfig, device: torch.device) -> Tensor:
    """Draw standard normal latents (n, latent_dim)."""
    return torch.randn(n, config.latent_dim).to(device)


def snapshot_epochs(epochs: Positive) -> list[int]:
    """Return at most five epochs from the first to the last, in equal ratios."""
    return sorted({max(1, round(epochs ** (step / 4))) for step in range(5)})


def steepness(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Compute the mean squared norm of the discriminator's gradient at real images (B, C, H, W), scaled to [-1, 1]."""
    real = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return (slope / 2).square().flatten(1).sum(1).mean()


@torch.no_grad()
def move_average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Update the moving average: decay times the averaged weights plus (1 - decay) times the network's."""
    for mean, value in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
