"""An ONNX Runtime session for an ONNX file: numpy in, numpy out. Does not import torch."""

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

LEAST, BATCH = 8, 512  # smallest and largest number of images in one call of ONNX Runtime
VALUES = 2**22
"""Limit of the number of values in one call, unless a single image has more: so memory grows with the size of an image,
not with that of a batch. It reduces a call to fewer than BATCH images only for images of more than 8,192 values."""
ERRORS, FATAL = 3, 4  # log severity levels of ONNX Runtime
Providers = list[str | tuple[str, dict[str, str]]]
EXACT_INT8 = "session.x64quantprecision"
"""By default, on an x86 processor without VNNI, ONNX Runtime adds products of 8-bit numbers in 16 bits, and the sums
saturate, so a quantised model gives other logits there than elsewhere. With this option they do not saturate."""

THREAD_POOL = ThreadPool(core_count.available())
"""Runs all calls on the CPU. Parallel calls with one thread each take less processor time than one on all cores."""
GPU_POOL = ThreadPool(1)  # for calls on a GPU


class Session:
    """A session of a graph with one input and one output tensor; thread-safe.

    It takes any number of images. If the graph has a fixed batch size, they are padded to a multiple of it and split.
    """

    def __init__(self, path: Path, *, cuda: bool = False, untrusted: bool = False) -> None:
        """Open the file. Raises ArtefactError or DeviceError. Names in an ``untrusted`` file are not printed."""
        self._session = open_session(path, cuda=cuda, untrusted=untrusted)
        self._thread_pool = GPU_POOL if cuda else THREAD_POOL
        first = self._session.get_inputs()[0]
        self._input = first.name
        self.fixed: int | None = first.shape[0] if isinstance(first.shape[0], int) else None

    def run(self, x: Floats) -> Floats:
        """Return the output (B, ...) for a batch (B, ...), float32."""
        array = np.ascontiguousarray(x, dtype=np.float32)
        if self.fixed is not None:
            array = np.resize(array, (-(-len(x) // self.fixed) * self.fixed, *array.shape[1:]))
        largest = at_once(array.shape[1:])
        parts = self._thread_pool.parts(len(array), self.fixed or min(LEAST, largest), self.fixed or largest)
        return np.concatenate(self._thread_pool.map(self._answer, [array[part] for part in parts]))[: len(x)]

    def _answer(self, part: Floats) -> Floats:
        output: Any = self._session.run(None, {self._input: part})[0]
        answer: Floats = output
        return answer


def at_once(shape: tuple[int, ...]) -> int:
    """Return the largest number of images (or latents) of this shape in one call."""
    return min(BATCH, max(1, VALUES // max(1, math.prod(shape))))


def exact_session(source: Path | bytes, options: ort.SessionOptions, providers: Providers) -> ort.InferenceSession:
    """Open a session whose 8-bit sums do not saturate, unless ONNX Runtime has no such kernel for one of the nodes."""
    options.add_session_config_entry(EXACT_INT8, "1")
    try:
        return ort.InferenceSession(source, options, providers=providers)
    except (NoKernel, Fail):  # Fail: ONNX Runtime could not rewrite the graph for these kernels
        options.add_session_config_entry(EXACT_INT8, "0")
        return ort.InferenceSession(source, options, providers=providers)


def open_session(path: Path, *, cuda: bool = False, untrusted: bool = False) -> ort.InferenceSession:
    """Open an ONNX Runtime session. With ``cuda``, raises instead of falling back to the CPU.

    ONNX Runtime also prints errors, which contain names of nodes exactly as in the file, including line breaks. For an
    ``untrusted`` file it does not print them.

    Raises:
        ArtefactError: ONNX Runtime does not accept the file.
        DeviceError: ONNX Runtime fell back to the CPU.
    """
    options = ort.SessionOptions()
    options.log_severity_level = FATAL if untrusted else ERRORS
    options.intra_op_num_threads = 1  # a ThreadPool distributes the images over the cores
    providers: Providers = ["CPUExecutionProvider"]
    if cuda:
        ort.preload_dlls()
        providers = [("CUDAExecutionProvider", {"use_tf32": "0"}), *providers]
    try:
        session = exact_session(path, options, providers)
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise ArtefactError(f"{path}: ONNX Runtime refuses it ({error})") from error
    if cuda and "CUDAExecutionProvider" not in session.get_providers():
        raise DeviceError(
            "ONNX Runtime could not start its CUDA provider and fell back to the CPU; its libraries are incomplete"
        )
    return session
