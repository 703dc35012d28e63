"""Tensors of the protocol, in a JSON list or as bytes, to float32 without a rounding that nobody asked for."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.float32 import only_numbers, reach
from service.errors import Code, ServiceError

Floats = NDArray[np.float32]

DATATYPES: dict[str, np.dtype[Any]] = {
    "FP32": np.dtype("<f4"),
    "FP16": np.dtype("<f2"),
    "FP64": np.dtype("<f8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
}
"""What an input may be sent as. Whatever it is, the model is given float32."""

NAMES = {np.dtype(np.float32): "FP32", np.dtype(np.float64): "FP64", np.dtype(np.int64): "INT64"}
"""What an output is sent as."""

EXACT = 2**24
"""Integers up to here have a float32 of their own."""


def from_bytes(data: memoryview, datatype: str, shape: tuple[int, ...], field: str) -> NDArray[Any]:
    """Little-endian values, row by row. The array looks at ``data``, whose size must be that of the shape."""
    dtype = DATATYPES[datatype]
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) != wanted:
        message = f"{field}: {datatype} of shape {list(shape)} has {wanted} bytes, not {len(data)}"
        raise ServiceError(Code.INVALID, message, field=field)
    return np.frombuffer(data, dtype).reshape(shape)


def from_json(data: list[Any], datatype: str, shape: tuple[int, ...], field: str) -> NDArray[Any]:
    """Numbers row by row, in one list or nested as the shape is."""
    dtype = DATATYPES[datatype]
    if datatype == "FP16":
        raise ServiceError(Code.INVALID, f"{field}: JSON has no FP16; send binary data, or FP32", field=field)
    if not only_numbers(data):
        raise ServiceError(Code.INVALID, f"{field}: these are no numbers in lists of one shape", field=field)
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ServiceError(Code.INVALID, f"{field}: the lists are not of one shape", field=field) from error
    if array.shape not in (shape, (math.prod(shape),)):
        message = f"{field}: the shape is {list(shape)}, but the data are {list(array.shape)}"
        raise ServiceError(Code.INVALID, message, field=field)
    if array.dtype.kind not in ("iu" if dtype.kind in "iu" else "iuf"):
        raise ServiceError(Code.INVALID, f"{field}: these are no numbers of the datatype {datatype}", field=field)
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= array.min() <= array.max() <= np.iinfo(dtype).max:
        raise ServiceError(Code.INVALID, f"{field}: a number is beyond {datatype}", field=field)
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is refused as such
        return array.astype(dtype).reshape(shape)


def to_float32(array: NDArray[Any], field: str) -> Floats:
    """The same numbers: of its own, aligned, as this machine has them. Raises ServiceError where one would change."""
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32)
    if array.dtype.kind in "iu":
        exact = array.dtype.itemsize < 4 or -EXACT <= array.min() <= array.max() <= EXACT
    else:
        exact = array.dtype.itemsize <= 4 or np.array_equal(floats, array, equal_nan=True)
    if not exact:
        message = f"{field}: a number has no float32 of the same value; the model takes FP32: round them and send that"
        raise ServiceError(Code.INVALID, message, field=field)
    return floats


def to_pixels(array: NDArray[Any], field: str) -> Floats:
    """Pixels in [0, 1]: UINT8 is read as 8-bit pixels from 0 to 255, as those of a PNG are, anything else as it is."""
    floats = to_float32(array, field)
    if array.dtype == np.uint8:
        floats /= 255
    elif not (floats.min() >= 0 and floats.max() <= 1):  # a NaN is neither
        message = f"{field}: pixels must lie in [0, 1], these reach from {reach(floats)}"
        remedy = "" if array.dtype.kind == "f" else "; send pixels from 0 to 255 as UINT8"
        raise ServiceError(Code.INVALID, message + remedy, field=field)
    return floats


def to_latents(array: NDArray[Any], field: str) -> Floats:
    """Finite numbers."""
    floats = to_float32(array, field)
    if not np.isfinite(floats).all():
        raise ServiceError(Code.INVALID, f"{field}: a number is not finite, or beyond float32", field=field)
    return floats
