"""Bodies as the specification has them, made by hand."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

JSON = {"Content-Type": "application/json"}
NUMPY = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8"}


def tensor(array: np.ndarray, name: str = "images", datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": datatype, **more}


def as_json(array: np.ndarray, name: str = "images", datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"inputs": [tensor(array, name, datatype, data=array.ravel().tolist())], **more}


def as_bytes(
    array: np.ndarray, name: str = "images", datatype: str = "FP32", **more: Any
) -> tuple[bytes, dict[str, str]]:
    """A body with its headers."""
    said = tensor(array, name, datatype, parameters={"binary_data_size": array.nbytes})
    head = json.dumps({"inputs": [said], **more}).encode()
    kind = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return head + array.tobytes(), kind


def outputs(body: bytes, headers: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The tensors of an answer, whichever way each travelled; all of the body is accounted for."""
    length = int(headers.get("Inference-Header-Content-Length") or len(body))
    made, at = {}, length
    for entry in json.loads(body[:length])["outputs"]:
        dtype = np.dtype(NUMPY[entry["datatype"]])
        if "data" in entry:
            flat = np.array(entry["data"], dtype)
        else:
            size = entry["parameters"]["binary_data_size"]
            flat, at = np.frombuffer(body[at : at + size], dtype), at + size
        made[entry["name"]] = flat.reshape(entry["shape"])
    assert at == len(body)
    return made
