"""An ONNX file as ONNX Runtime serves it: numpy in, numpy out. Imports no torch."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from gauntlet.errors import ArtefactError, DeviceError
from gauntlet.runtime import core_count
from gauntlet.runtime.thread_pool import ThreadPool

Floats = NDArray[np.float32]

LEAST, BATCH = 8, 512  # images that one call of ONNX Runtime gets
VALUES = 2**22
"""Numbers of the images that one call gets, at most, unless a single image has more: memory grows with an image's
size, not with that of a batch. Smaller than BATCH only for images of more than 8,192 values."""
ERRORS, FATAL = 3, 4  # what ONNX Runtime prints
Providers = list[str | tuple[str, dict[str, str]]]
EXACT_INT8 = "session.x64quantprecision"
"""By default, on an x86 processor without VNNI, ONNX Runtime adds products of 8-bit numbers in 16 bits and clips the
sums, so that a quantised model answers otherwise there than elsewhere. With this option it does not clip."""

THREAD_POOL = ThreadPool(core_count.available())
"""What computes on the CPU. Calls with a thread each, side by side, take less processor time than one on all cores."""
ALONE = ThreadPool(1)  # on a GPU


class Session:
    """One input tensor, one output tensor; safe to call from several threads.

    Any number of images, also where the graph takes a fixed one: then it is asked as often as needed.
    """

    def __init__(self, path: Path, *, cuda: bool = False, untrusted: bool = False) -> None:
        """Raises ArtefactError or DeviceError. The names in an ``untrusted`` file are not printed."""
        self._session = open_session(path, cuda=cuda, untrusted=untrusted)
        self._thread_pool = ALONE if cuda else THREAD_POOL
        first = self._session.get_inputs()[0]
        self._input = first.name
        self.fixed: int | None = first.shape[0] if isinstance(first.shape[0], int) else None

    def run(self, x: Floats) -> Floats:
        """The answers (B, ...) to a batch (B, ...), float32."""
        array = np.ascontiguousarray(x, dtype=np.float32)
        if self.fixed is not None:
            array = np.resize(array, (-(-len(x) // self.fixed) * self.fixed, *array.shape[1:]))
        most = at_once(array.shape[1:])
        parts = self._thread_pool.parts(len(array), self.fixed or min(LEAST, most), self.fixed or most)
        return np.concatenate(self._thread_pool.map(self._answer, [array[part] for part in parts]))[: len(x)]

    def _answer(self, part: Floats) -> Floats:
        answer: Any = self._session.run(None, {self._input: part})[0]
        made: Floats = answer
        return made


def at_once(shape: tuple[int, ...]) -> int:
    """How many things of this shape one call gets at most."""
    return min(BATCH, max(1, VALUES // max(1, math.prod(shape))))


def exact_session(source: Path | bytes, options: ort.SessionOptions, providers: Providers) -> ort.InferenceSession:
    """A session whose 8-bit sums are not clipped, unless ONNX Runtime cannot compute one of the nodes so."""
    options.add_session_config_entry(EXACT_INT8, "1")
    try:
        return ort.InferenceSession(source, options, providers=providers)
    except (NoKernel, Fail):  # it may also fail to rewrite the graph for them
        options.add_session_config_entry(EXACT_INT8, "0")
        return ort.InferenceSession(source, options, providers=providers)


def open_session(path: Path, *, cuda: bool = False, untrusted: bool = False) -> ort.InferenceSession:
    """An ONNX Runtime session; where ``cuda`` is asked for it raises instead of falling back to the CPU.

    What goes wrong is raised. ONNX Runtime prints it too, with the names of nodes as they are in the file, line breaks
    included: not for an ``untrusted`` one.
    """
    options = ort.SessionOptions()
    options.log_severity_level = FATAL if untrusted else ERRORS
    options.intra_op_num_threads = 1  # a ThreadPool spreads the images
    providers: Providers = ["CPUExecutionProvider"]
    if cuda:
        ort.preload_dlls()
        providers = [("CUDAExecutionProvider", {"use_tf32": "0"}), *providers]
    try:
        session = exact_session(path, options, providers)
    except Exception as error:  # ONNX Runtime's own exceptions share no base
        raise ArtefactError(f"{path}: ONNX Runtime refuses it ({error})") from error
    if cuda and "CUDAExecutionProvider" not in session.get_providers():
        raise DeviceError(
            "ONNX Runtime could not start its CUDA provider and fell back to the CPU; its libraries are incomplete"
        )
    return session
