"""``python -m bench.zoo.export LIBRARY NAME SIDE SEED FOLDER``: export one architecture, as a user would.

``torch.onnx.export`` writes ``float.onnx``, and ONNX Runtime's static quantiser makes ``int8.onnx`` of it, both with
their default settings. Only the weights, which are random, are chosen here.
"""

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from onnxruntime.quantization import quantize_static
from torch import nn

import gauntlet  # noqa: F401  before ONNX Runtime is used
from bench.calibration_images import CalibrationImages
from bench.zoo.weights import noise, settle

CALIBRATING = 8  # images
FLOAT, INT8 = "float.onnx", "int8.onnx"


def build(library: str, name: str) -> nn.Module:
    """Return a network of the library, with the library's random initialisation."""
    made: nn.Module
    if library == "timm":
        made = import_module("timm").create_model(name, pretrained=False)
    else:
        kinds: Any = import_module("torchvision.models")
        switches = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        made = kinds.get_model(name, weights=None, **switches)
    return made


def write(make: Callable[[], nn.Module], side: int, seed: int, folder: Path) -> None:
    """Write both files; if the quantiser fails, ``int8.txt`` gives the reason instead of the second."""
    torch.manual_seed(seed)
    module = settle(make(), side, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(module, (noise(1, side, torch.Generator().manual_seed(seed)),), str(folder / FLOAT))
    try:
        images = noise(CALIBRATING, side, torch.Generator().manual_seed(seed)).numpy()
        quantize_static(folder / FLOAT, folder / INT8, CalibrationImages(folder / FLOAT, images))
    except Exception as error:
        (folder / INT8).with_suffix(".txt").write_text(f"{type(error).__name__}: {error}")


def main() -> None:
    library, name, side, seed, folder = sys.argv[1:]
    write(lambda: build(library, name), int(side), int(seed), Path(folder))


if __name__ == "__main__":
    main()
