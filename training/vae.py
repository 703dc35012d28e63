"""Variational autoencoder with a small Gaussian latent space (Kingma and Welling, arXiv 1312.6114), KL term weighted.

The weight is that of Higgins et al., "beta-VAE" (ICLR 2017), here below 1. Expected on the validation images: ELBO
about -237 nats; the smallest class has 3 % or more of 2,000 samples.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gauntlet.artifacts.manifest import MODEL_FILE, Metric, Positive
from training.data import Examples, TrainingData, augment, to_pixels
from training.export import Graph, Measured, Product
from training.generation_metrics import Judge
from training.generators import VaeDecoder, VaeEncoder
from training.networks import Shape
from training.plots import beside_nearest, latent_map, learning_curves, sheet
from training.run import JobConfig, Run, Stateful

MAPPED_IMAGES = 3_000

NOTES = """\
A convolutional variational autoencoder (arXiv 1312.6114) with {latent_dim} latent dimensions. `model.onnx` is the
decoder: standard normal latents to images. Pixels are read as probabilities (Bernoulli cross-entropy), so the ELBO is
comparable between such models only. In training the KL term weighs {beta}: with the full weight images are smoother.
The figures and the curves are of the full ELBO. A mean over all images that fit the latents is blurred: drawn are
{sharpness} times its log-odds (1: the mean itself), chosen by distance and by eye on validation images; the ELBO is
that of the mean. Classes are counted by `{judge}`, whose last features also give distance, precision and recall:
numbers of that classifier, not FID.

**Use it** to draw images and to look at the latent space. **Limit:** samples are smooth: fine texture is
averaged away.

![latent space](latent.png)

Samples, each above the training image nearest to it in L2: copies would be seen.

![nearest training images](nearest.png)
"""


class VaeConfig(JobConfig):
    """Every hyper-parameter of the autoencoder's training."""

    family: Literal["vae"] = "vae"
    latent_dim: int
    width: int  # channels of the finest feature map
    batch_size: Positive
    learning_rate: float  # of Adam, the maximum of the one-cycle schedule
    beta: float  # weight of the KL term in the objective; below 1 gives up likelihood for sharper images
    sharpness: float = 1.0  # factor of the log-odds of drawn images, not in training; 1: the mean of each pixel
    flip: bool = False
    judge: str  # artefact of the classifier that counts the classes of samples and gives the features for distances

    @property
    def builds_on(self) -> tuple[str, ...]:
        return (self.judge,)


class Vae(nn.Module):
    """Encoder and decoder, trained together."""

    def __init__(self, shape: Shape, config: VaeConfig) -> None:
        super().__init__()
        self.encoder = VaeEncoder(shape, config.latent_dim, config.width)
        self.decoder = VaeDecoder(shape, config.latent_dim, config.width, config.sharpness)


class Elbo(NamedTuple):
    """Evidence lower bound and its two terms, in nats per image: elbo = reconstruction - kl."""

    elbo: Tensor
    reconstruction: Tensor
    kl: Tensor


def train(config: VaeConfig, data: TrainingData, run: Run) -> Vae:
    """Train, and return the network of the best epoch on the CPU."""
    Judge(run.artifacts / config.judge)  # raises now, rather than after the training, if it is missing
    torch.manual_seed(config.seed)
    network = Vae(data.image_shape, config).to(run.device)
    images = data.train.images.to(run.device)
    steps = max(1, len(images) // config.batch_size)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=steps * config.epochs, pct_start=0.1
    )

    parts: dict[str, Stateful] = {"network": network, "optimizer": optimizer, "schedule": schedule}
    for _ in run.epochs(parts, network, steps):
        network.train()
        totals = torch.zeros(3, device=run.device)
        for batch in torch.randperm(len(images)).tensor_split(steps):
            x = to_pixels(augment(images[batch], shift=0, flip=config.flip))  # (B, C, H, W)
            bound = elbo(network, x, torch.randn(len(x), config.latent_dim).to(run.device))
            optimizer.zero_grad()
            torch.autograd.backward(config.beta * bound.kl - bound.reconstruction)
            optimizer.step()
            schedule.step()
            totals += torch.stack(bound).detach()
            run.step(-bound.elbo.detach())
        trained = dict(zip(Elbo._fields, (totals / steps).tolist(), strict=True))
        held_out = evaluate(network, data.validation.images.to(run.device), config)
        metrics = {f"train_{name}": value for name, value in trained.items()}
        metrics |= {f"validation_{name}": value for name, value in held_out.items()}
        run.log(metrics, score=held_out["reconstruction"] - config.beta * held_out["kl"])

    network.load_state_dict(run.best)
    return network.cpu().eval()


def elbo(network: Vae, x: Tensor, noise: Tensor) -> Elbo:
    """Estimate the bound with one sample per image: x (B, C, H, W), standard normal noise (B, latent_dim)."""
    mean, log_variance = network.encoder(x).chunk(2, 1)  # (B, latent_dim) each
    logits = network.decoder.logits(mean + noise * torch.exp(log_variance / 2))  # (B, C, H, W)
    reconstruction = -functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    kl = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / (2 * len(x))
    return Elbo(reconstruction - kl, reconstruction, kl)


@torch.no_grad()
def evaluate(network: Vae, images: Tensor, config: VaeConfig) -> dict[str, float]:
    """Compute the mean of the bound over uint8 images (N, C, H, W), with the same noise every time."""
    network.eval()
    generator = torch.Generator().manual_seed(0)
    totals = torch.zeros(3)
    for part in torch.split(images, 500):
        noise = torch.randn(len(part), config.latent_dim, generator=generator).to(images.device)
        totals += torch.stack(elbo(network, to_pixels(part), noise)).cpu() * len(part)
    return dict(zip(Elbo._fields, (totals / len(images)).tolist(), strict=True))


def package(network: Vae, config: VaeConfig, data: TrainingData, run: Run, test: Examples) -> Product:
    """Return the artefact: the decoder, and the bound on the test set, which was unused until then."""
    latents = torch.randn(100, config.latent_dim, generator=torch.Generator().manual_seed(config.seed))
    mapped = data.validation.images[:MAPPED_IMAGES]
    with torch.no_grad():
        samples = network.decoder(latents)
        means = torch.cat([network.encoder(to_pixels(part)) for part in torch.split(mapped, 500)])[
            :, : config.latent_dim
        ]

    def measure(folder: Path) -> dict[str, Metric]:
        judge, path = Judge(run.artifacts / config.judge), folder / MODEL_FILE
        bound = evaluate(network, test.images, config)
        figures = {name: Metric(value=value, n=len(test.labels), split="test") for name, value in bound.items()}
        return figures | judge.quality(path, config.latent_dim, test) | judge.coverage(path, config.latent_dim)

    return Product(
        graph=Graph(network.decoder, latents[:8], "latents", "images"),
        pictures={
            "curves.png": learning_curves(
                run.history,
                {
                    "ELBO, nats per image": ["train_elbo", "validation_elbo"],
                    "reconstruction": ["train_reconstruction", "validation_reconstruction"],
                    "KL": ["train_kl", "validation_kl"],
                },
            ),
            "samples.png": sheet(samples, 10),
            "nearest.png": beside_nearest(samples[:20], data),
            "latent.png": latent_map(means.numpy(), data.validation.labels[: len(mapped)].numpy(), data.classes),
        },
        manifest={
            "kind": "generator",
            "family": config.family,
            "dataset": config.dataset,
            "latent_dim": config.latent_dim,
            "output_shape": data.image_shape,
        },
        measure=lambda folder: Measured(measure(folder)),
        notes=NOTES.format(**config.model_dump()),
    )
