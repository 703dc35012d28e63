"""The list, the weights and the page of bench.zoo; one small network the whole way."""

import onnx
import pytest
import torch
from torch import nn

from bench.zoo import export, page
from bench.zoo.architectures import ARCHITECTURES, FEW
from bench.zoo.opening import opened
from bench.zoo.records import Opened, Row
from bench.zoo.weights import noise, settle

SIDE = 128  # from which on images count as those of ImageNet


def network() -> nn.Module:
    last = nn.Linear(8, 1000)
    nn.init.zeros_(last.weight)
    body = (nn.Conv2d(3, 8, 5, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*body, last)


def test_every_architecture_is_listed_once_and_the_few_among_them():
    names = [architecture.name for architecture in ARCHITECTURES]
    assert len(set(names)) == len(names) >= 30
    assert set(FEW) < set(names)


def test_values_keep_their_size_and_no_layer_is_dead():
    torch.manual_seed(0)
    module = settle(network(), SIDE, seed=0)
    assert not module.training
    normalised = module[:2](noise(16, SIDE, torch.Generator().manual_seed(1)))
    assert normalised.std().item() == pytest.approx(1, abs=0.1)
    logits = module(noise(4, SIDE, torch.Generator().manual_seed(2)))
    assert len({tuple(row) for row in logits.tolist()}) == 4
    torch.manual_seed(0)
    assert torch.equal(settle(network(), SIDE, seed=0)[-1].weight, module[-1].weight)


def row(**fields):
    base = {"library": "timm", "name": "a", "side": 224, "form": "float", "megabytes": 1.23, "failure": None}
    return Row.model_validate({**base, "opened": None, **fields})


def test_the_page_has_a_line_for_every_file_and_says_what_was_not_run():
    ready = Opened(seconds=1.25, peak=512.4, gradients="verified", refused=None)
    rows = [
        row(opened=ready),
        row(form="int8", opened=ready.model_copy(update={"gradients": "none (x | y\nz)"})),
        row(name="b", megabytes=None, failure="w" * 500),
        row(name="c", opened=ready.model_copy(update={"gradients": None, "refused": "because"})),
    ]
    made = page.render(rows, ["d", "e"], "2 cores", 300.0)
    assert "| a | timm | 224 | float | 1.2 | 1.2 | 512 | verified |" in made
    assert "none (x / y z)" in made
    assert f"failed: {'w' * 100}" in made
    assert "w" * 200 not in made
    assert "refused: because" in made
    assert "3 of 5 architectures were run. 2 cores. Not run: d, e" in made
    assert "Of 4 files: 1 verified, 1 without gradients, 1 not made, 1 refused." in made


@pytest.mark.slow
def test_a_network_is_exported_quantised_and_opened(tmp_path):
    export.write(network, SIDE, 0, tmp_path)
    assert (tmp_path / f"{export.FLOAT}.data").is_file()  # as the exporter does by default
    found = [opened(tmp_path / name) for name in (export.FLOAT, export.INT8)]
    assert [one.gradients for one in found] == ["verified", "straight-through"], found
    assert all(one.seconds > 0 and one.peak > 50 for one in found)
    domains = {node.op_type for node in onnx.load(tmp_path / export.INT8).graph.node}
    assert "QuantizeLinear" in domains
