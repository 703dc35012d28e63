"""The part of the zoo that comes from exporters: torch (dynamo, TorchScript) and scikit-learn through skl2onnx."""

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.zoo import Animal

K = 5


class Residual(nn.Module):
    def __init__(self, width: int = 8, colours: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(colours, width, 3, padding=1)
        self.body = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
        self.head = nn.Linear(width * 16, K)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h = torch.relu(h + self.body(h))
        return self.head(nn.functional.adaptive_avg_pool2d(h, 4).flatten(1))


class Depthwise(nn.Module):
    def __init__(self, act: type[nn.Module] = nn.Hardswish) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2, padding=1),
            act(),
            nn.Conv2d(12, 12, 3, padding=1, groups=12),
            act(),
            nn.Conv2d(12, 16, 1),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(64, K),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Attention(nn.Module):
    """A vision transformer with a class token, in small."""

    def __init__(self, size: int = 16, width: int = 24) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, width) / 4)
        self.places = nn.Parameter(torch.randn(1, (size // 4) ** 2 + 1, width) / 4)
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out, self.head = nn.Linear(width, width), nn.Linear(width, K)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patches(x).flatten(2).transpose(1, 2)  # (B, T, D)
        h = torch.cat([self.token.expand(x.shape[0], -1, -1), h], dim=1) + self.places
        b, t, d = h.shape
        q, k, v = self.qkv(self.norm(h)).reshape(b, t, 3, 4, d // 4).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / (d // 4) ** 0.5).softmax(-1)
        h = h + self.out((weights @ v).transpose(1, 2).reshape(b, t, d))
        return self.head(h[:, 0])


class Last(nn.Module):
    """A channels-last network, as from Keras."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ELU(), nn.AvgPool2d(2))
        self.head = nn.Sequential(nn.LazyLinear(K), nn.Softmax(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x.permute(0, 3, 1, 2)).flatten(1))


class Bytes(nn.Module):
    """Takes uint8 and normalises inside."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 32), nn.SiLU(), nn.Linear(32, K))

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x.float() / 255 - 0.5) / 0.25)


def mlp(colours: int = 1, act: type[nn.Module] = nn.Tanh) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(colours * 64, 32), act(), nn.Linear(32, 16), act(), nn.Linear(16, K))


def cnn(colours: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(colours, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3),
        nn.PReLU(8),
        nn.Flatten(),
        nn.LazyLinear(K),
    )


@torch.no_grad()
def _wake(module: nn.Module, example: Tensor) -> None:
    """An untrained network gives every image the same class: take out what all logits have in common."""
    module(example)  # lazy layers
    last = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
    if last.out_features == K:
        seen: list[Tensor] = []
        hook = last.register_forward_hook(lambda _part, _given, made: seen.append(made))
        many = torch.rand(32, *example.shape[1:])
        module((many * 255).to(torch.uint8) if example.dtype == torch.uint8 else many)
        hook.remove()
        last.bias.sub_(seen[0].mean(dim=0))


def export(module: nn.Module, shape: tuple[int, ...], *, dynamo: bool, **given: Any) -> bytes:
    """A module's file; ``fixed`` leaves the batch at one, ``kind`` is the input's type."""
    torch.manual_seed(0)
    fixed, kind = given.pop("fixed", False), given.pop("kind", torch.float32)
    batch = 1 if fixed else 2
    example = torch.randint(0, 256, (batch, *shape)).to(kind) if kind == torch.uint8 else torch.rand(batch, *shape)
    _wake(module.eval(), example)
    if kind == torch.float16:
        module, example = module.half(), example.half()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own deprecations
        if dynamo:
            shapes = None if fixed else ({0: torch.export.Dim("batch", min=1)},)
            program = torch.onnx.export(module, (example,), dynamo=True, dynamic_shapes=shapes, verbose=False, **given)
            program.save(buffer)
        else:
            axes = None if fixed else {"x": {0: "n"}, "y": {0: "n"}}
            names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
            torch.onnx.export(module, (example,), buffer, dynamo=False, **names, **given)
    return buffer.getvalue()


def by_torch(dynamo: bool) -> dict[str, Callable[[], Animal]]:
    def one(make: Callable[[], nn.Module], shape: tuple[int, ...], **given: Any) -> Callable[[], Animal]:
        return lambda: Animal(export(make(), shape, dynamo=dynamo, **given))

    return {
        "mlp": one(mlp, (1, 8, 8)),
        "cnn": one(cnn, (1, 12, 12)),
        "cnn-fixed": one(cnn, (1, 12, 12), fixed=True),
        "residual": one(Residual, (1, 12, 12)),
        "depthwise": one(Depthwise, (3, 16, 16)),
        "attention": one(Attention, (1, 16, 16)),
        "nhwc": one(Last, (12, 12, 3)),
        "bytes": one(Bytes, (3, 8, 8), kind=torch.uint8),
    }


def by_sklearn() -> dict[str, Callable[[], Animal]]:
    """Fitted to tell random patterns with noise apart."""
    from skl2onnx import to_onnx  # noqa: PLC0415  not among what the tests always have
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    draw = np.random.default_rng(0)
    y = draw.integers(0, K, 400)
    x = (draw.random((K, 64))[y] * 0.5 + 0.5 * draw.random((400, 64))).astype(np.float32)

    def one(model: Any, differentiable: bool = True, **options: Any) -> Callable[[], Animal]:
        def make() -> Animal:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about convergence
                model.fit(x, y)
                made = to_onnx(model, x[:1], options=options or None, target_opset=18)
            return Animal(made.SerializeToString(), differentiable=differentiable)

        return make

    return {
        "logistic": one(LogisticRegression()),
        "scaled": one(make_pipeline(StandardScaler(), LogisticRegression(C=0.1))),
        "mlp": one(MLPClassifier((32,), max_iter=60, random_state=0)),
        "zipmap": one(MLPClassifier((16,), max_iter=60, random_state=0, activation="tanh"), zipmap=True),
        "forest": one(RandomForestClassifier(10, max_depth=6, random_state=0), differentiable=False),
    }
