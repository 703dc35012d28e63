"""Training, evaluation and export of classifiers: one loop for every network and objective."""

from pathlib import Path

import torch
from torch import Tensor, nn

from gauntlet.artifacts.manifest import MODEL_FILE, Metric, Split
from gauntlet.attacks.apgd import apgd_t
from gauntlet.certify import lipschitz
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import Threat
from training import attack_metrics, bound_metrics, interval
from training.calibration import DIAGRAM_FILE, calibrate
from training.classifier_config import ClassifierConfig
from training.classifier_objectives import head_of, margin_loss
from training.data import Examples, TrainingData, augment, to_pixels
from training.export import Graph, Measured, Product, predict, session
from training.lipschitz import certified_radii, freeze
from training.plots import learning_curves, sheet
from training.run import Run, Stateful

CERTIFIED_EPS = {f"certified_accuracy_{eps}": eps / 255 for eps in (36, 72, 108)} | {"certified_accuracy_1.58": 1.58}
ATTACKED_IMAGES = 500  # of the validation images, when the checkpoint is chosen by robust accuracy


def train(config: ClassifierConfig, data: TrainingData, run: Run) -> nn.Sequential:
    """Train, and return the network of the best epoch, frozen to plain layers, on the CPU."""
    torch.manual_seed(config.seed)
    network = config.build(data).to(run.device).to(memory_format=torch.channels_last)
    images, labels = data.train.images.to(run.device), data.train.labels.to(run.device)
    steps = max(1, len(images) // config.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=steps * config.epochs, pct_start=0.15
    )

    parts: dict[str, Stateful] = {"network": network, "optimizer": optimizer, "schedule": schedule}
    for epoch in run.epochs(parts, network, steps):
        network.train()
        total = torch.zeros((), device=run.device)
        for step, batch in enumerate(torch.randperm(len(images)).tensor_split(steps)):
            progress = (epoch - 1 + step / steps) / config.epochs
            x = to_pixels(augment(images[batch], config.shift, flip=config.flip))  # (B, C, H, W)
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(run.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
                loss = config.loss(network, x, labels[batch], progress)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.detach()
            run.step(loss.detach())
        held_out = evaluate(network, data.validation, config)
        metrics = {"train_loss": float(total) / steps} | {
            f"validation_{name}": value for name, value in held_out.items()
        }
        run.log(metrics, score=metrics[f"validation_{config.selected_by}"])

    network.load_state_dict(run.best)
    return freeze(network).cpu()


class Evaluated(nn.Module):
    """A network with the interface that gauntlet's attacks expect."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits

    def at(self, _: Tensor) -> "Evaluated":
        return self


def evaluate(network: nn.Sequential, examples: Examples, config: ClassifierConfig) -> dict[str, float]:
    """Compute loss, accuracy, certified accuracies, and the metric of ``config.selected_by``, on the frozen network."""
    plain = freeze(network)
    place = next(plain.parameters()).device
    with torch.no_grad():
        logits = torch.cat([plain(to_pixels(images).to(place)) for images in torch.split(examples.images, 500)]).cpu()
    labels = examples.labels.cpu()
    shares = score(logits, labels, certified_radii(logits, head_of(plain).cpu()) if config.certified else None)
    loss = margin_loss(logits, labels, head_of(plain).cpu(), config.radius, config.temperature)
    return {"loss": float(loss), **shares, **defended(plain, examples, config)}


def defended(plain: nn.Module, examples: Examples, config: ClassifierConfig) -> dict[str, float]:
    """Compute the metric that chooses the epoch, if it is neither accuracy nor L2 certified accuracy; otherwise {}."""
    if config.selected_by == "robust_accuracy":
        return {"robust_accuracy": surviving(plain, examples, config.eps)}
    if config.selected_by == "noisy_accuracy":
        return {"noisy_accuracy": noisy(plain, examples, config.sigma)}
    if config.selected_by == "certified_accuracy_linf":
        assert isinstance(plain, nn.Sequential)  # never a twin: the manifest of an artefact has this metric
        return {"certified_accuracy_linf": bounded(plain, examples, config.eps)}
    return {}


def surviving(plain: nn.Module, examples: Examples, eps: float) -> float:
    """Compute robust accuracy on the first images, within Linf ``eps``, under a short targeted APGD.

    Deliberately another attack than the one in training.
    """
    place = next(plain.parameters()).device
    x, y = (part[:ATTACKED_IMAGES].to(place) for part in (to_pixels(examples.images), examples.labels))
    keys = KeyedRandom.span(0, 0, len(x), place)
    moved = apgd_t(Evaluated(plain), x, y, Threat("linf", eps), generator=keys, steps=20, targets=4)
    with torch.no_grad():
        right = [plain(images).argmax(1) == y for images, y in ((x, y), (moved, y))]
    return float((right[0] & right[1]).double().mean())


def bounded(plain: nn.Sequential, examples: Examples, eps: float) -> float:
    """Compute the share of the images whose right class is proved by interval bounds within Linf ``eps``."""
    place, hits = next(plain.parameters()).device, 0
    with torch.no_grad():
        for images, labels in zip(*(torch.split(part, 500) for part in examples[:2]), strict=True):
            hits += int(interval.certified(plain, to_pixels(images).to(place), labels.to(place), eps).sum())
    return hits / len(examples.labels)


def noisy(plain: nn.Module, examples: Examples, sigma: float) -> float:
    """Compute the accuracy on images with Gaussian noise: one draw for each image, the same at every call."""
    place, noise, hits = next(plain.parameters()).device, torch.Generator().manual_seed(0), 0
    with torch.no_grad():
        for images, labels in zip(*(torch.split(part.cpu(), 500) for part in examples[:2]), strict=True):
            x = to_pixels(images) + sigma * torch.randn(images.shape, generator=noise)
            hits += int((plain(x.to(place)).argmax(1).cpu() == labels).sum())
    return hits / len(examples.labels)


def score(logits: Tensor, labels: Tensor, radii: Tensor | None) -> dict[str, float]:
    """Compute accuracy and, with radii (B,), certified accuracies: right, and certified at that radius or more."""
    right = logits.argmax(1) == labels
    shares = {"accuracy": float(right.double().mean())}
    if radii is not None:
        shares |= {name: float((right & (radii >= eps)).double().mean()) for name, eps in CERTIFIED_EPS.items()}
    return shares


def package(plain: nn.Sequential, config: ClassifierConfig, data: TrainingData, run: Run, test: Examples) -> Product:
    """Return the artefact; its figures are measured on the exported file, with the test set, unused until then."""
    images, labels = data.validation.images[:50], data.validation.labels[:50]
    with torch.no_grad():
        guesses = plain(to_pixels(images)).argmax(1)
    titles = [(data.classes[guess], bool(guess == label)) for guess, label in zip(guesses, labels, strict=True)]

    def measure(folder: Path) -> Measured:
        served, certificate = session(folder / MODEL_FILE), lipschitz.prove(folder / MODEL_FILE)
        figures: dict[str, Metric] = {}
        parts: tuple[tuple[Split, str, Examples], ...] = (
            ("validation", "validation_", data.validation),
            ("test", "", test),
        )
        for split, prefix, examples in parts:
            logits = torch.from_numpy(predict(served, to_pixels(examples.images)))
            proved = certificate.radius(logits) if config.certified else None
            radii = None if proved is None else torch.from_numpy(proved)
            for name, value in score(logits, examples.labels, radii).items():
                figures[prefix + name] = Metric(value=value, n=len(examples.labels), split=split)
        figures |= attack_metrics.measure(folder, test)
        if config.sigma:
            figures |= attack_metrics.measure_smoothed(folder, test, config.sigma)
        if config.selected_by == "certified_accuracy_linf":
            figures |= bound_metrics.measure(folder, data.validation, test, config.eps)
        temperature, errors, diagram = calibrate(folder / MODEL_FILE, data.validation, test)
        return Measured(figures | errors, {"temperature": temperature}, {DIAGRAM_FILE: diagram})

    shares = [name for name in run.history[0] if "accuracy" in name]
    return Product(
        graph=Graph(plain, to_pixels(images[:8]), "x", "logits"),
        pictures={
            "curves.png": learning_curves(
                run.history, {"loss": ["train_loss", "validation_loss"], "share of validation images": shares}
            ),
            "samples.png": sheet(to_pixels(images), 10, titles),
        },
        manifest={
            "kind": "classifier",
            "family": config.family,
            "dataset": config.dataset,
            "input_shape": data.image_shape,
            "classes": data.classes,
            "sigma": config.sigma or None,
            "interval_eps": config.eps if config.objective == "interval" else None,
        },
        measure=measure,
        notes=config.notes(),
    )
