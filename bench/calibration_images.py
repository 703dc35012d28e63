"""Calibration images for ONNX Runtime's static quantiser, which reads them one by one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader


class CalibrationImages(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """Images (n, C, H, W) for the only input of an ONNX file."""

    def __init__(self, file: Path, images: NDArray[np.float32]) -> None:
        self._name = onnx.load(file, load_external_data=False).graph.input[0].name
        self._rows: Iterator[NDArray[np.float32]] = iter(images[:, None])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        row = next(self._rows, None)
        return None if row is None else {self._name: row}
