"""What the clients send, and what ONNX Runtime says to it, written by the test that runs them."""

import os
from functools import cache

import numpy as np

URL = os.environ["GAUNTLET_URL"]
TYPES = {
    "FP32": np.float32,
    "FP16": np.float16,
    "FP64": np.float64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
}
WAYS = [(datatype, binary) for datatype in TYPES for binary in (True, False) if binary or datatype != "FP16"]
"""Every datatype as bytes, and as JSON where JSON has it."""


@cache
def case(name: str) -> np.ndarray:
    with np.load(os.environ["GAUNTLET_CASES"]) as cases:
        return cases[name]


def sent_as(datatype: str) -> tuple[np.ndarray, np.ndarray]:
    """Images of a datatype, and their logits: grey as floats or 8-bit pixels, black and white as other integers."""
    if datatype == "UINT8":
        return case("pixels"), case("grey_logits")
    grey = datatype.startswith("FP")
    kind = "half" if datatype == "FP16" else "grey" if grey else "mono"
    return case(kind).astype(TYPES[datatype]), case(f"{kind}_logits")
