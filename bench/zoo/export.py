"""``python -m bench.zoo.export LIBRARY NAME SIDE SEED FOLDER``: the files of one architecture, as people make them.

``float.onnx`` is what ``torch.onnx.export`` writes with its default settings, ``int8.onnx`` what ONNX Runtime's static
quantiser makes of it with its own. Apart from the files' weights, which are random, nothing is chosen here.
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
    """A network of the library with its own random weights."""
    made: nn.Module
    if library == "timm":
        made = import_module("timm").create_model(name, pretrained=False)
    else:
        kinds: Any = import_module("torchvision.models")
        switches = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        made = kinds.get_model(name, weights=None, **switches)
    return made


def write(make: Callable[[], nn.Module], side: int, seed: int, folder: Path) -> None:
    """Both files; the second is left out where the quantiser fails, and ``int8.txt`` says why."""
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
