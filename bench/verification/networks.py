"""Small networks like those of the verification competition of 2021, trained in minutes and saved as ONNX."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from training.data import SOURCES, Examples, data_root

SEED = 0
BATCH = 128


class Residual(nn.Module):
    """A residual block: two 3x3 convolutions, with a 1x1 convolution as shortcut."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(inside, out, 3, stride, 1), nn.ReLU(), nn.Conv2d(out, out, 3, 1, 1))
        self.short = nn.Conv2d(inside, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.short(x))


def dense(*widths: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for inside, out in itertools.pairwise(widths):
        layers += [nn.Linear(inside, out), activation()]
    return nn.Sequential(*layers[:-1])


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 64, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip


def residual(*blocks: tuple[int, int, int]) -> nn.Sequential:
    """Return a convolution of stride 2, residual blocks (channels in, channels out, stride), and two dense layers."""
    size = 16 // math.prod(stride for _, _, stride in blocks)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), *(Residual(*block) for block in blocks),
        nn.Flatten(), nn.Linear(blocks[-1][1] * size * size, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A network architecture, its training, and the eps of its properties."""

    make: Callable[[], nn.Sequential]
    dataset: str
    eps: tuple[float, ...]
    shape: tuple[int, ...]  # of its ONNX input
    train_eps: float = 0.0  # of FGSM in adversarial training; 0: none
    epochs: int = 2


KINDS = {
    "dense-2x256": Kind(lambda: dense(784, 256, 256, 10), "mnist", (0.02, 0.03, 0.05), (1, 784, 1)),
    "dense-4x256": Kind(lambda: dense(784, *[256] * 4, 10), "mnist", (0.02, 0.03, 0.05), (1, 784)),
    "dense-6x256": Kind(lambda: dense(784, *[256] * 6, 10), "mnist", (0.015, 0.03, 0.05), (1, 784, 1)),
    "dense-9x200": Kind(lambda: dense(784, *[200] * 9, 10), "mnist", (0.015, 0.025), (1, 1, 28, 28), epochs=4),
    "sigmoid-6x200": Kind(
        lambda: dense(784, *[200] * 6, 10, activation=nn.Sigmoid), "mnist", (0.008, 0.012), (1, 1, 28, 28), epochs=8
    ),
    "sigmoid-3x100": Kind(
        lambda: dense(784, *[100] * 3, 10, activation=nn.Sigmoid), "mnist", (0.012, 0.02), (1, 784), epochs=5
    ),
    "conv-cifar": Kind(convolutional, "cifar10", (0.004, 0.008, 0.016), (1, 3, 32, 32), train_eps=4 / 255, epochs=3),
    "resnet-2b": Kind(
        lambda: residual((8, 16, 2), (16, 16, 2)), "cifar10", (0.004, 0.008, 0.016), (1, 3, 32, 32), 4 / 255, epochs=3
    ),
    "resnet-4b": Kind(
        lambda: residual((8, 16, 2), (16, 16, 1), (16, 16, 2), (16, 16, 1)),
        "cifar10",
        (0.004, 0.008, 0.016),
        (1, 3, 32, 32),
        4 / 255,
        epochs=3,
    ),
}


def examples(dataset: str, test: bool) -> Examples:
    source = SOURCES[dataset]
    files = source.test if test else source.train
    images, labels = source.read([data_root() / file.path for file in files])
    return Examples(torch.from_numpy(images.copy()), torch.from_numpy(labels), official=False, sha256="")


def train(kind: Kind, images: int) -> nn.Sequential:
    """Train a network with Adam on the first ``images`` images, seed 0."""
    torch.manual_seed(SEED)
    network = kind.make()
    data = examples(kind.dataset, test=False)
    x, y = data.images[:images].float() / 255, data.labels[:images]
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    total = kind.epochs * (len(x) // BATCH + 1)
    rates = torch.optim.lr_scheduler.OneCycleLR(adam, 3e-3, total_steps=total)
    for _ in range(kind.epochs):
        for rows in torch.split(torch.randperm(len(x)), BATCH):
            inputs = x[rows]
            if kind.train_eps:
                inputs = _fgsm(network, inputs, y[rows], kind.train_eps)
            adam.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(network(inputs), y[rows]))
            adam.step()
            rates.step()
    return network.eval()


def _fgsm(network: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Do a single FGSM step from a random start: Wong, Rice and Kolter, arXiv 2001.03994."""
    start = (x + (2 * torch.rand_like(x) - 1) * eps).clamp(0, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(network(start), y), start)
    moved = start.detach() + 1.25 * eps * gradient.sign()
    return torch.minimum(torch.maximum(moved, x - eps), x + eps).clamp(0, 1)


def save(network: nn.Sequential, shape: tuple[int, ...], path: Path) -> None:
    """Write the network as an ONNX graph, without an exporter."""
    weights: dict[str, Tensor] = {}
    nodes: list[onnx.NodeProto] = []
    output = _write(network, "x", nodes, weights, (f"n{i}" for i in itertools.count()))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, (1, 10))],
        [numpy_helper.from_array(value.detach().numpy(), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _write(
    layer: nn.Module, x: str, nodes: list[onnx.NodeProto], weights: dict[str, Tensor], names: Iterator[str]
) -> str:
    if isinstance(layer, nn.Sequential):
        for part in layer:
            x = _write(part, x, nodes, weights, names)
        return x
    y = next(names)
    match layer:
        case Residual():
            ends = [_write(part, x, nodes, weights, names) for part in (layer.body, layer.short)]
            nodes.append(helper.make_node("Add", ends, [f"{y}.sum"]))
            nodes.append(helper.make_node("Relu", [f"{y}.sum"], [y]))
        case nn.Linear() | nn.Conv2d():
            inputs = [x, f"{y}.weight", f"{y}.bias"]
            weights.update({inputs[1]: layer.weight, inputs[2]: layer.bias})  # type: ignore[dict-item]
            if isinstance(layer, nn.Conv2d):
                padding = [int(p) for p in layer.padding] * 2
                nodes.append(helper.make_node("Conv", inputs, [y], strides=layer.stride, pads=padding))
            else:
                nodes.append(helper.make_node("Gemm", inputs, [y], transB=1))
        case _:
            names_of = {nn.ReLU: "Relu", nn.Sigmoid: "Sigmoid", nn.Tanh: "Tanh", nn.Flatten: "Flatten"}
            operator = names_of[type(layer)]
            nodes.append(helper.make_node(operator, [x], [y]))
    return y
