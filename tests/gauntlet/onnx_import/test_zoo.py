"""What people bring, by other exporters and in other shapes: taken, differentiated, broken."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch

from gauntlet.errors import GauntletError
from gauntlet.evaluation import referee
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.sandbox.fork_server import ForkServer
from gauntlet.threat import Threat
from tests import sandboxed, zoo
from tests.zoo import Animal

N, EPS = 32, 0.1


@dataclass(frozen=True)
class Met:
    """What became of one of them."""

    refused: str | None
    verified: bool = False
    differentiable: bool = True
    broken: float = 0.0
    by_noise: float = 0.0


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    made = ForkServer()
    yield made
    made.close()


def meet(fork_server: ForkServer, name: str, animal: Animal) -> Met:
    try:
        guest = sandboxed.opened(fork_server, animal.data, ModelSettings(name=name, **animal.says))
    except GauntletError as error:
        return Met(str(error))
    x = torch.rand(N, *guest.manifest.input_shape, generator=torch.Generator().manual_seed(0))
    x = 0.5 + animal.contrast * (x - 0.5)
    y = guest.predict(x).argmax(dim=1)
    verified = guest.manifest.differentiable
    attack, params = ("pgd", {"steps": 20}) if verified else ("square", {"queries": 1000})
    threat = Threat("linf", EPS)
    noise = referee.run(guest, "noise", x, y, threat, params={"draws": 1})
    found = referee.run(guest, attack, x, y, threat, params=params)
    guest.close()
    shares = (float(outcome.success.double().mean()) for outcome in (found, noise))
    return Met(None, verified, animal.differentiable, *shares)


def judge(animals: dict[str, Callable[[], Animal]], fork_server: ForkServer) -> dict[str, Met]:
    met = {name: meet(fork_server, name, make()) for name, make in animals.items()}
    taken = {name: one for name, one in met.items() if one.refused is None}
    smooth = [one for one in taken.values() if one.differentiable]
    assert len(taken) >= 0.95 * len(met), {name: one.refused for name, one in met.items() if one.refused}
    assert sum(one.verified for one in smooth) >= 0.8 * len(smooth), met
    assert not [name for name, one in taken.items() if one.verified and not one.differentiable]
    assert not {name: one for name, one in taken.items() if one.by_noise >= 0.5}
    assert not {name: one for name, one in taken.items() if one.broken <= 0.5}
    return met


SAMPLE = ("mlp-784x1", "mlp-uint8", "cnn-fixed-4", "cnn-nhwc", "cnn-opset-9", "cnn-float16")


def test_a_sample_is_taken_verified_and_broken(fork_server: ForkServer):
    animals = zoo.by_hand()
    judge({name: animals[name] for name in SAMPLE}, fork_server)


@pytest.mark.slow
def test_the_zoo(fork_server: ForkServer):
    from tests import exported  # noqa: PLC0415  torch's exporters take seconds to import

    pytest.importorskip("skl2onnx")
    animals = {
        **zoo.by_hand(),
        **{f"script-{name}": make for name, make in exported.by_torch(dynamo=False).items()},
        **{f"dynamo-{name}": make for name, make in exported.by_torch(dynamo=True).items()},
        **{f"sklearn-{name}": make for name, make in exported.by_sklearn().items()},
    }
    assert len(animals) >= 40
    met = judge(animals, fork_server)
    print({name: (one.verified, one.broken, one.by_noise) for name, one in met.items()})
