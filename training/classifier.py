"""Classifiers: cross-entropy, for the constrained network after moving every rival logit up by what an attack could.

Expected on the validation images (5,000): ``fashion-mnist-standard`` 94 % accuracy; ``fashion-mnist-lipschitz`` 89 %
accuracy and 85 % certified at L2 36/255.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gauntlet import certify
from gauntlet.manifest import MODEL_FILE, Metric
from training.data import Examples, TrainingData, augment, to_pixels
from training.export import Graph, Product, predict, session
from training.lipschitz import certified_radii, class_distances, freeze
from training.networks import lipschitz_cnn, standard_cnn
from training.plots import learning_curves, sheet
from training.run import JobConfig, Run, Stateful

IMAGE_SHAPE = (1, 28, 28)
CERTIFIED_EPS = {f"certified_accuracy_{eps}": eps / 255 for eps in (36, 72, 108)}


class ClassifierConfig(JobConfig):
    """Every hyper-parameter of a classifier's training."""

    family: Literal["standard", "lipschitz"]
    network: Literal["standard-cnn", "lipschitz-cnn"]
    width: int = 0  # channels of the constrained network's first layer
    dropout: float = 0.0
    batch_size: int = 256
    learning_rate: float  # of AdamW at the top of the one-cycle schedule
    weight_decay: float = 0.0
    shift: int = 0  # augmentation: moves of up to this many pixels
    flip: bool = True
    radius: float = 0.0  # L2 distance that the loss wants between an image and the decision boundary
    temperature: float = 1.0  # of the softmax in the loss: small ones care for the hard images only
    precision: Literal["bfloat16", "float32"] = "float32"  # bfloat16 pays off only where the processor has it


NETWORKS: dict[str, Callable[[int, ClassifierConfig], nn.Sequential]] = {
    "standard-cnn": lambda classes, config: standard_cnn(classes, config.dropout),
    "lipschitz-cnn": lambda classes, config: lipschitz_cnn(classes, config.width),
}

NOTES = {
    "standard-cnn": """\
The convolutional network of the student paper that this repository reproduces: two convolutions (64 and 128 filters,
2x2), a dense layer of 256, dropout {dropout}. Our choice, where the paper is silent: padding 1,
2x2 max-pooling and ReLU after each convolution. Trained on mirrored images, without any defence.

**Use it** as the undefended reference. **Limit:** imperceptible changes make it give any answer.
""",
    "lipschitz-cnn": """\
A plain chain of orthogonal convolutions (BCOP, arXiv 1911.00937) and orthogonal dense layers (Cayley transform, arXiv
2104.07167) with MaxMin activations (arXiv 1811.05381), {width} channels wide, and a head with rows of norm 1 (arXiv
2108.04062): moving an image by d in L2 moves its features by at most d. Trained on mirrored images with every rival
logit raised by what a move of {radius} could do, softmax temperature {temperature}. The certified radius is the
smallest (z_t - z_j) / (L ||w_t - w_j||) over the other classes j, with L proved from the exported weights.

**Use it** where an answer must come with a guarantee. **Limits:** the guarantee is for L2 distance only, and says that
the answer will not change, not that it is right.
""",
}


def train(config: ClassifierConfig, data: TrainingData, run: Run) -> nn.Sequential:
    """Train, and give back the network of the best epoch, frozen to plain layers, on the CPU."""
    torch.manual_seed(config.seed)
    network = NETWORKS[config.network](len(data.classes), config).to(run.device).to(memory_format=torch.channels_last)
    images, labels = (part.to(run.device) for part in data.train)
    steps = max(1, len(images) // config.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=steps * config.epochs, pct_start=0.15
    )

    parts: dict[str, Stateful] = {"network": network, "optimizer": optimizer, "schedule": schedule}
    for _ in run.epochs(parts, network, steps):
        network.train()
        total = torch.zeros((), device=run.device)
        for batch in torch.randperm(len(images)).tensor_split(steps):
            x = to_pixels(augment(images[batch], config.shift, flip=config.flip))  # (B, 1, 28, 28)
            x = x.contiguous(memory_format=torch.channels_last)
            y = labels[batch]  # (B,)
            with torch.autocast(run.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
                logits = network(x)
            loss = margin_loss(logits.float(), y, head_of(network), config.radius, config.temperature)
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
        run.log(metrics, score=metrics[f"validation_{selected_by(config)}"])

    network.load_state_dict(run.best)
    return freeze(network).cpu()


def margin_loss(logits: Tensor, labels: Tensor, head: Tensor, radius: float, temperature: float) -> Tensor:
    """Cross-entropy under the worst that a move of length ``radius`` can do to a network with a 1-Lipschitz body.

    Each rival's logit is raised by radius times the distance of its row in the head from the right class's, as in GloRo
    networks (Leino et al., arXiv 2102.08452) and with the temperature of Prach and Lampert (arXiv 2208.03160).
    With radius 0 and temperature 1 it is plain cross-entropy.

    Args:
        logits: (B, classes).
        labels: (B,).
        head: weight of the last layer (classes, features), rows as the logits use them.
        radius: in pixel units.
        temperature: above 0.
    """
    if radius:
        logits = logits + radius * class_distances(head)[labels]
    return functional.cross_entropy(logits / temperature, labels) * temperature


def head_of(network: nn.Sequential) -> Tensor:
    """The last layer's weight (classes, features) as the logits use it."""
    head = network[-1]
    weight = head.weight
    assert isinstance(weight, Tensor)
    return weight if isinstance(head, nn.Linear) else functional.normalize(weight)


def selected_by(config: ClassifierConfig) -> str:
    """The figure that chooses the checkpoint: the certified accuracy where there is one."""
    return "certified_accuracy_36" if config.radius else "accuracy"


def evaluate(network: nn.Sequential, examples: Examples, config: ClassifierConfig) -> dict[str, float]:
    """Loss, accuracy and, for a constrained network, certified accuracies, in float32 on the frozen network."""
    plain = freeze(network).cpu()
    with torch.no_grad():
        logits = torch.cat([plain(to_pixels(images)) for images in examples.images.cpu().tensor_split(10)])
    labels = examples.labels.cpu()
    loss = float(margin_loss(logits, labels, head_of(plain), config.radius, config.temperature))
    radii = certified_radii(logits, head_of(plain)) if config.radius else None
    return {"loss": loss, **score(logits, labels, radii)}


def score(logits: Tensor, labels: Tensor, radii: Tensor | None) -> dict[str, float]:
    """Accuracy and, with radii (B,), certified accuracies: right, and certified at least that far."""
    right = logits.argmax(1) == labels
    shares = {"accuracy": float(right.double().mean())}
    if radii is not None:
        shares |= {name: float((right & (radii >= eps)).double().mean()) for name, eps in CERTIFIED_EPS.items()}
    return shares


def package(
    plain: nn.Sequential, config: ClassifierConfig, data: TrainingData, run: Run, load_test: Callable[[], Examples]
) -> Product:
    """The artefact: its figures come from the exported file on the test set, which nothing has looked at before."""
    sample = Examples(data.validation.images[:50], data.validation.labels[:50])
    with torch.no_grad():
        guesses = plain(to_pixels(sample.images)).argmax(1)
    titles = [(data.classes[guess], bool(guess == label)) for guess, label in zip(guesses, sample.labels, strict=True)]

    def measure(folder: Path) -> dict[str, Metric]:
        test = load_test()
        logits = torch.from_numpy(predict(session(folder / MODEL_FILE), to_pixels(test.images)))
        radii = certify.prove(folder / MODEL_FILE).radius(logits) if config.radius else None
        shares = score(logits, test.labels, radii)
        chosen = run.history[run.best_epoch - 1]
        return {name: Metric(value=value, n=len(test.labels), split="test") for name, value in shares.items()} | {
            f"validation_{name}": Metric(
                value=chosen[f"validation_{name}"], n=len(data.validation.labels), split="validation"
            )
            for name in shares
        }

    shares = [name for name in run.history[0] if "accuracy" in name]
    return Product(
        graphs={MODEL_FILE: Graph(plain, to_pixels(sample.images[:8]), "x", "logits")},
        pictures={
            "curves.png": learning_curves(
                run.history, {"loss": ["train_loss", "validation_loss"], "share of validation images": shares}
            ),
            "samples.png": sheet(to_pixels(sample.images), 10, titles),
        },
        manifest={
            "kind": "classifier",
            "family": config.family,
            "dataset": config.dataset,
            "input_shape": IMAGE_SHAPE,
            "classes": data.classes,
        },
        measure=measure,
        notes=NOTES[config.network].format(**config.model_dump()),
    )
