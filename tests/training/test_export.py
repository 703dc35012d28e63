"""Export: what disagrees is refused, and a refusal leaves the old folder as it was."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

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


def test_a_file_tells_nothing_of_the_machine_that_wrote_it(tmp_path: Path) -> None:
    write_graph(Graph(nn.Sequential(nn.Linear(4, 2)), torch.ones(3, 4), "x", "logits"), tmp_path / "model.onnx")
    data = (tmp_path / "model.onnx").read_bytes()
    assert b".py" not in data
    assert str(Path.cwd()).encode() not in data


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
