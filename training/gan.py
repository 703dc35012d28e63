"""Fully connected generative adversarial network (Goodfellow et al., arXiv 1406.2661), K discriminator steps a turn.

Stabilised by a gradient penalty on real images (R1: Mescheder et al., arXiv 1801.04406), learning rates that
fall to zero, and a moving average of the generator's weights (Yazici et al., arXiv 1806.04498). Expected: the smallest
class has 3 % or more of 2,000 samples.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gauntlet.manifest import MODEL_FILE, Metric
from training.data import Examples, TrainingData, augment, to_pixels
from training.export import Graph, Product
from training.judge import Judge, frechet_distance
from training.networks import DenseDiscriminator, DenseGenerator
from training.plots import learning_curves, sheet
from training.run import JobConfig, Run, Stateful

IMAGE_SHAPE = (1, 28, 28)
PENALTY_EVERY = 16  # steps: as seldom, and as many times as strong, costs little (Karras et al., arXiv 1912.04958)

NOTES = """\
A fully connected generative adversarial network (arXiv 1406.2661) with {discriminator_steps} discriminator steps for
each generator step, as in the student paper that this repository reproduces. Our choice: non-saturating loss, a
gradient penalty on real images (arXiv 1801.04406), batch normalisation in the generator, and a moving average of its
weights. `model.onnx` maps standard normal latents ({latent_dim} each) to images. Classes are counted by `{judge}`,
whose logits also give the Frechet distance.

**Use it** to draw images of clothes. **Limit:** a fully connected network knows nothing of neighbouring pixels: expect
grain.
"""


class GanConfig(JobConfig):
    """Every hyper-parameter of the adversarial training."""

    family: Literal["gan"] = "gan"
    latent_dim: int
    width: int  # of the narrowest hidden layer of both networks
    batch_size: int
    discriminator_steps: int  # for each generator step
    generator_rate: float
    discriminator_rate: float
    beta1: float = 0.5
    penalty: float  # weight of the squared gradient at real images
    average: float  # decay of the moving average of the generator's weights, a generator step; less at the start
    flip: bool = False
    judge: str = "fashion-mnist-standard"  # the artefact that counts the classes and chooses the epoch


def train(config: GanConfig, data: TrainingData, run: Run) -> nn.Module:
    """Train, and give back the averaged generator of the best epoch on the CPU."""
    judge = Judge(run.artifacts / config.judge)
    real_features = judge.logits(to_pixels(data.validation.images))
    torch.manual_seed(config.seed)
    generator = DenseGenerator(config.latent_dim, config.width).to(run.device)
    discriminator = DenseDiscriminator(config.width).to(run.device)
    averaged = copy.deepcopy(generator).requires_grad_(False).eval()
    betas = (config.beta1, 0.999)
    generator_optimizer = torch.optim.Adam(generator.parameters(), config.generator_rate, betas)
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), config.discriminator_rate, betas)
    images = data.train.images.to(run.device)
    steps = max(1, len(images) // config.batch_size)
    turns = -(-steps // config.discriminator_steps)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 - done / config.epochs)
        for optimizer in (generator_optimizer, discriminator_optimizer)
    ]

    def draw(n: int) -> Tensor:
        return torch.randn(n, config.latent_dim).to(run.device)

    parts: dict[str, Stateful] = {
        "generator": generator,
        "discriminator": discriminator,
        "averaged": averaged,
        "generator_optimizer": generator_optimizer,
        "discriminator_optimizer": discriminator_optimizer,
        "generator_schedule": schedules[0],
        "discriminator_schedule": schedules[1],
    }
    for epoch in run.epochs(parts, averaged, steps):
        generator.train()
        totals = torch.zeros(2, device=run.device)
        for step, batch in enumerate(torch.randperm(len(images)).tensor_split(steps)):
            real = to_pixels(augment(images[batch], shift=0, flip=config.flip))  # (B, 1, 28, 28)
            with torch.no_grad():
                fake = generator(draw(len(real)))
            loss = functional.softplus(-discriminator(real)).mean() + functional.softplus(discriminator(fake)).mean()
            totals[0] += loss.detach()
            if step % PENALTY_EVERY == 0:
                loss = loss + PENALTY_EVERY * config.penalty / 2 * steepness(discriminator, real)
            discriminator_optimizer.zero_grad()
            torch.autograd.backward(loss)
            discriminator_optimizer.step()

            if step % config.discriminator_steps == 0:
                loss = functional.softplus(-discriminator(generator(draw(len(real))))).mean()
                generator_optimizer.zero_grad()
                torch.autograd.backward(loss)
                generator_optimizer.step()
                taken = (epoch - 1) * turns + step // config.discriminator_steps
                move_average(averaged, generator, min(config.average, (taken + 1) / (taken + 10)))
                totals[1] += loss.detach()
            run.step(loss.detach())
        for schedule in schedules:
            schedule.step()
        losses = totals / torch.tensor([steps, turns]).to(totals)
        with torch.no_grad():
            fake = averaged(draw(len(real_features))).cpu()
        metrics = {
            "discriminator_loss": float(losses[0]),
            "generator_loss": float(losses[1]),
            "frechet_distance": frechet_distance(judge.logits(fake), real_features),
            "min_class_share": float(judge.shares(fake).min()),
        }
        run.log(metrics, score=-metrics["frechet_distance"])

    averaged.load_state_dict(run.best)
    return averaged.cpu()


def steepness(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Mean squared norm of the discriminator's gradient at real images (B, 1, 28, 28), pixels taken from -1 to 1."""
    real = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return (slope / 2).square().flatten(1).sum(1).mean()


@torch.no_grad()
def move_average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Move weights, and the running statistics of batch normalisation, towards the network's."""
    for mean, value in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def package(
    generator: nn.Module, config: GanConfig, _: TrainingData, run: Run, load_test: Callable[[], Examples]
) -> Product:
    """The artefact: the generator, and its distance from the test set, which nothing has looked at before."""
    latents = torch.randn(100, config.latent_dim, generator=torch.Generator().manual_seed(config.seed))
    with torch.no_grad():
        samples = generator(latents)

    def measure(folder: Path) -> dict[str, Metric]:
        judge = Judge(run.artifacts / config.judge)
        test = to_pixels(load_test().images)
        with torch.no_grad():
            noise = torch.Generator().manual_seed(config.seed)
            fake = generator(torch.randn(len(test), config.latent_dim, generator=noise))
        distance = frechet_distance(judge.logits(fake), judge.logits(test))
        figures = {"frechet_distance": Metric(value=distance, n=len(test), split="test")}
        return figures | judge.coverage(folder / MODEL_FILE, config.latent_dim)

    return Product(
        graphs={MODEL_FILE: Graph(generator, latents[:8], "latents", "images")},
        pictures={
            "curves.png": learning_curves(
                run.history,
                {
                    "losses": ["discriminator_loss", "generator_loss"],
                    "Frechet distance of logits": ["frechet_distance"],
                    "share of the rarest class": ["min_class_share"],
                },
            ),
            "samples.png": sheet(samples, 10),
        },
        manifest={
            "kind": "generator",
            "family": config.family,
            "dataset": config.dataset,
            "latent_dim": config.latent_dim,
            "output_shape": IMAGE_SHAPE,
        },
        measure=measure,
        notes=NOTES.format(**config.model_dump()),
    )
