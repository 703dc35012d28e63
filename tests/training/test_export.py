"""Export: what disagrees is refused, and a refusal leaves the old folder as it was."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training.card import wilson
from training.export import ExportError, Graph, replacing, write_graph


class Unsteady(nn.Module):
    """Gives something else at each call in Python, so that no exported graph can agree with it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


def test_a_graph_that_disagrees_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="differ by"):
        write_graph(Graph(Unsteady(), torch.ones(3, 4), "x", "logits"), tmp_path / "model.onnx")


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ("old", "new"):
        with replacing(target) as folder:
            (folder / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failure_leaves_the_old_folder_alone(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with replacing(target) as folder:
        (folder / "model.onnx").write_text("old")
    with pytest.raises(ExportError), replacing(target) as folder:
        write_graph(Graph(Unsteady(), torch.ones(3, 4), "x", "logits"), folder / "model.onnx")
    assert (target / "model.onnx").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_wilson_interval() -> None:
    low, high = wilson(0.9, 100)  # worked example: 0.8256 to 0.9448
    assert low == pytest.approx(0.8256, abs=1e-4)
    assert high == pytest.approx(0.9448, abs=1e-4)
    assert wilson(1.0, 10)[1] == pytest.approx(1.0)
