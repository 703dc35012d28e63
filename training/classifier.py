"""Classifiers: one loop, whatever the network and the objective."""

from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from gauntlet import certify
from gauntlet.attacks.apgd import apgd_t
from gauntlet.manifest import MODEL_FILE, Metric, Positive, Split
from gauntlet.randomness import Keyed
from gauntlet.threat import Threat
from training import robustness
from training.data import Examples, TrainingData, augment, to_pixels
from training.export import Graph, Product, predict, session
from training.lipschitz import certified_radii, freeze
from training.networks import constrained_paper_cnn, lipschitz_cnn, paper_cnn
from training.objectives import OBJECTIVES, head_of, margin_loss
from training.plots import learning_curves, sheet
from training.run import JobConfig, Run, Stateful

CERTIFIED_EPS = {f"certified_accuracy_{eps}": eps / 255 for eps in (36, 72, 108)} | {"certified_accuracy_1.58": 1.58}
ATTACKED_IMAGES = 500  # of the validation images, when a checkpoint is chosen by what survives an attack


NEEDS = {
    "paper-cnn": {"filters"},
    "constrained-paper-cnn": {"filters"},
    "lipschitz-cnn": {"blocks", "width", "features"},
    "unconstrained-cnn": {"blocks", "width", "features"},
    "margin": set[str](),
    "penalty": {"eps", "penalty"},
    "adversarial": {"eps", "steps"},
    "trades": {"eps", "steps", "penalty"},
    "noise": {"sigma"},
}


class ClassifierConfig(JobConfig):
    """Every hyper-parameter of a classifier's training."""

    family: Literal["standard", "lipschitz", "lipschitz-paper", "penalty", "adversarial", "smoothed"]
    network: Literal["paper-cnn", "constrained-paper-cnn", "lipschitz-cnn", "unconstrained-cnn"]
    filters: tuple[int, ...] = ()  # of the paper's network
    blocks: tuple[int, ...] = ()  # convolutions per block of the constrained network ...
    width: int = 0  # ... channels of its first block ...
    features: int = 0  # ... and of its dense layers
    dropout: float = 0.0
    batch_size: Positive = 256
    learning_rate: float  # of AdamW at the top of the one-cycle schedule
    weight_decay: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"  # of convolutions and dense layers, in training alone
    shift: int = 0  # augmentation: moves of up to this many pixels
    flip: bool = False
    objective: Literal["margin", "penalty", "adversarial", "trades", "noise"] = "margin"
    radius: float = 0.0  # margin: L2 distance that the loss wants between an image and the decision boundary
    temperature: float = 1.0  # margin: of the softmax in the loss; small ones care for the hard images only
    eps: float = 0.0  # adversarial, trades: Linf distance of the attack; penalty: L2 distance of a pair
    steps: int = 0  # adversarial, trades: of the attack
    penalty: float = 0.0  # penalty, trades: weight of the second term
    sigma: float = 0.0  # noise: deviation of the Gaussian noise
    selected_by: Literal[
        "accuracy", "certified_accuracy_36", "certified_accuracy_1.58", "robust_accuracy", "noisy_accuracy"
    ] = "accuracy"  # of the validation images: chooses the epoch that ships

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """What the network and the objective are made of is there, and nothing that they would not look at."""
        used = NEEDS[self.network] | NEEDS[self.objective]
        for field in sorted(set().union(*NEEDS.values())):
            if bool(getattr(self, field)) != (field in used):
                wanted = "needed" if field in used else "not used"
                raise ValueError(f"{field} is {wanted} by {self.network} and the objective {self.objective}")
        if self.certified and self.precision != "float32":
            raise ValueError(f"{self.network} holds its norms in float32 only, not in {self.precision}")
        return self

    @property
    def certified(self) -> bool:
        """Whether the network holds its Lipschitz constant by construction."""
        return self.network in ("constrained-paper-cnn", "lipschitz-cnn")


def build(config: ClassifierConfig, data: TrainingData) -> nn.Sequential:
    """The network, untrained."""
    shape, classes = data.image_shape, len(data.classes)
    if config.network == "paper-cnn":
        return paper_cnn(shape, classes, data.mean, data.std, config.filters, config.dropout)
    if config.network == "constrained-paper-cnn":
        return constrained_paper_cnn(shape, classes, data.mean, config.filters)
    constrained = config.network == "lipschitz-cnn"
    return lipschitz_cnn(
        shape, classes, data.mean, config.blocks, config.width, config.features, constrained=constrained
    )


DESIGN = {
    "paper-cnn": """\
The convolutional network of the student paper that this repository reproduces: convolutions with {filters} filters of
2x2, a dense layer of 256, dropout {dropout}. Our choice, where the paper is silent: padding 1, 2x2 max-pooling and ReLU
after each convolution.""",
    "constrained-paper-cnn": """\
The convolutional network of the student paper, convolutions with {filters} filters of 2x2 and a dense layer of 256,
with the norm of every layer held at 1 or below by scaling its channels (AOL, arXiv 2208.03160), the last one included:
what the paper says that it did, made so that it can be proved.""",
    "lipschitz-cnn": """\
A plain chain of orthogonal convolutions (BCOP, arXiv 1911.00937; blocks of {blocks}, {width} channels in the first) and
orthogonal dense layers (Cayley transform, arXiv 2104.07167) with MaxMin activations (arXiv 1811.05381) and a head with
rows of norm 1 (arXiv 2108.04062): moving an image by d in L2 moves its features by at most d.""",
    "unconstrained-cnn": """\
The architecture of the Lipschitz-constrained network (blocks of {blocks}, {width} channels in the first, MaxMin
activations) made of ordinary layers: what the constraint costs and buys is the difference between the two.""",
}

PURPOSE = {
    "standard": """\
Trained with cross-entropy, without any defence.

**Use it** as an undefended reference. **Limit:** imperceptible changes make it give any answer.
""",
    "lipschitz": """\
Trained with every rival logit raised by what a move of {radius} could do, softmax temperature {temperature}. The
certified radius is the smallest (z_t - z_j) / (L ||w_t - w_j||) over the other classes j, with L proved from the
exported weights.

**Use it** where an answer must come with a guarantee. **Limits:** the guarantee is for L2 distance only, and says that
the answer will not change, not that it is right.
""",
    "penalty": """\
Trained with cross-entropy and {penalty} times the mean squared ratio |f(x) - f(x')| / |x - x'| of eq. 10 of the student
paper (after arXiv 1811.09008). Our reading of what it leaves open: f are the logits, and x' is x moved by {eps} in L2
along the gradient of the loss.

**Use it** to see what a penalty buys. **Limit:** no certificate follows from it; the attacks are its only judges.
""",
    "adversarial": """\
Trained against what {steps} steps of PGD find within Linf {eps:.4g} (objective: {objective}; arXiv 1706.06083,
arXiv 1901.08573).

**Use it** as the field's usual defence. **Limit:** empirical, and for that distance: nothing is proved.
""",
    "smoothed": """\
Trained on images with Gaussian noise of deviation {sigma} (arXiv 1902.02918), for randomized smoothing. The figures
that begin with `smoothed_` are of the smoothed classifier, which answers what this network says most often under that
noise: by the algorithm CERTIFY, {samples} draws an image, wrong with probability {alpha} at most, image by image. An
image on which it abstains counts as wrong. All other figures are of the network itself.

**Use it** smoothed, where an answer must come with a guarantee. **Limits:** the guarantee is for L2 distance only,
holds but for that probability, and costs thousands of passes through the network.
""",
}
PURPOSE["lipschitz-paper"] = PURPOSE["lipschitz"]


def train(config: ClassifierConfig, data: TrainingData, run: Run) -> nn.Sequential:
    """Train, and give back the network of the best epoch, frozen to plain layers, on the CPU."""
    torch.manual_seed(config.seed)
    network = build(config, data).to(run.device).to(memory_format=torch.channels_last)
    objective = OBJECTIVES[config.objective]
    images, labels = data.train.images.to(run.device), data.train.labels.to(run.device)
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
            x = to_pixels(augment(images[batch], config.shift, flip=config.flip))  # (B, C, H, W)
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(run.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
                loss = objective(network, x, labels[batch], config)
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
    """A network as gauntlet's attacks see one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits

    def at(self, _: Tensor) -> "Evaluated":
        return self


def evaluate(network: nn.Sequential, examples: Examples, config: ClassifierConfig) -> dict[str, float]:
    """Loss, accuracy, and what is certified, or survives targeted APGD, on the frozen network."""
    plain = freeze(network)
    place = next(plain.parameters()).device
    with torch.no_grad():
        logits = torch.cat([plain(to_pixels(images).to(place)) for images in torch.split(examples.images, 500)]).cpu()
    labels = examples.labels.cpu()
    shares = score(logits, labels, certified_radii(logits, head_of(plain).cpu()) if config.certified else None)
    loss = margin_loss(logits, labels, head_of(plain).cpu(), config.radius, config.temperature)
    return {"loss": float(loss), **shares, **defended(plain, examples, config)}


def defended(plain: nn.Module, examples: Examples, config: ClassifierConfig) -> dict[str, float]:
    """What chooses the epoch where that is neither accuracy nor certified."""
    if config.selected_by == "robust_accuracy":
        return {"robust_accuracy": surviving(plain, examples, config.eps)}
    if config.selected_by == "noisy_accuracy":
        return {"noisy_accuracy": noisy(plain, examples, config.sigma)}
    return {}


def surviving(plain: nn.Module, examples: Examples, eps: float) -> float:
    """The share of the first images that a short targeted APGD, another attack than the training's, does not break."""
    place = next(plain.parameters()).device
    x, y = (part[:ATTACKED_IMAGES].to(place) for part in (to_pixels(examples.images), examples.labels))
    keys = Keyed.span(0, 0, len(x), place)
    moved = apgd_t(Evaluated(plain), x, y, Threat("linf", eps), generator=keys, steps=20, targets=4)
    with torch.no_grad():
        right = [plain(images).argmax(1) == y for images, y in ((x, y), (moved, y))]
    return float((right[0] & right[1]).double().mean())


def noisy(plain: nn.Module, examples: Examples, sigma: float) -> float:
    """Accuracy where every image meets one draw of Gaussian noise, the same at every call."""
    place, noise, hits = next(plain.parameters()).device, torch.Generator().manual_seed(0), 0
    with torch.no_grad():
        for images, labels in zip(*(torch.split(part.cpu(), 500) for part in examples[:2]), strict=True):
            x = to_pixels(images) + sigma * torch.randn(images.shape, generator=noise)
            hits += int((plain(x.to(place)).argmax(1).cpu() == labels).sum())
    return hits / len(examples.labels)


def score(logits: Tensor, labels: Tensor, radii: Tensor | None) -> dict[str, float]:
    """Accuracy and, with radii (B,), certified accuracies: right, and certified at least that far."""
    right = logits.argmax(1) == labels
    shares = {"accuracy": float(right.double().mean())}
    if radii is not None:
        shares |= {name: float((right & (radii >= eps)).double().mean()) for name, eps in CERTIFIED_EPS.items()}
    return shares


def package(plain: nn.Sequential, config: ClassifierConfig, data: TrainingData, run: Run, test: Examples) -> Product:
    """The artefact: its figures come from the exported file on the test set, which nothing has looked at before."""
    images, labels = data.validation.images[:50], data.validation.labels[:50]
    with torch.no_grad():
        guesses = plain(to_pixels(images)).argmax(1)
    titles = [(data.classes[guess], bool(guess == label)) for guess, label in zip(guesses, labels, strict=True)]

    def measure(folder: Path) -> dict[str, Metric]:
        served, certificate = session(folder / MODEL_FILE), certify.prove(folder / MODEL_FILE)
        figures: dict[str, Metric] = {}
        parts: tuple[tuple[Split, str, Examples], ...] = (
            ("validation", "validation_", data.validation),
            ("test", "", test),
        )
        for split, prefix, examples in parts:
            logits = torch.from_numpy(predict(served, to_pixels(examples.images)))
            radii = certificate.radius(logits) if config.certified else None
            for name, value in score(logits, examples.labels, radii).items():
                figures[prefix + name] = Metric(value=value, n=len(examples.labels), split=split)
        figures |= robustness.measure(folder, test)
        return figures | robustness.measure_smoothed(folder, test, config.sigma) if config.sigma else figures

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
        },
        measure=measure,
        notes=(DESIGN[config.network] + "\n" + PURPOSE[config.family]).format(
            **config.model_dump(), **robustness.CERTIFY
        ),
    )
