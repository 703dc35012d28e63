"""A null in a request of the protocol means that nothing was said: some of its clients write one for every field."""

import json
from typing import Any

import numpy as np
import pytest

from service.errors import ServiceError
from service.inference_protocol import schemas
from service.inference_protocol.message import read
from tests.service.inference_protocol.bodies import as_json

ASKED = [kind for kind in vars(schemas).values() if isinstance(kind, type) and issubclass(kind, schemas.Asked)]
LEAST: dict[type, dict[str, Any]] = {
    schemas.InputTensor: {"name": "x", "shape": [1], "datatype": "FP32"},
    schemas.OutputTensor: {"name": "x"},
    schemas.InferRequest: as_json(np.zeros((1, 1, 8, 8), np.float32)),
}


@pytest.mark.parametrize("kind", ASKED, ids=lambda kind: kind.__name__)
def test_null_is_the_same_as_absent(kind: type[schemas.Asked]):
    least = LEAST.get(kind, {})
    optional = [name for name, field in kind.model_fields.items() if not field.is_required()]
    absent = read(kind, json.dumps(least).encode())
    for nulls in (*([name] for name in optional), optional):
        assert read(kind, json.dumps({**dict.fromkeys(nulls), **least}).encode()) == absent


@pytest.mark.parametrize("kind", ASKED, ids=lambda kind: kind.__name__)
def test_the_description_says_so(kind: type[schemas.Asked]):
    described = kind.model_json_schema()
    for name, field in kind.model_fields.items():
        nullable = {"type": "null"} in described["properties"][name].get("anyOf", [])
        assert nullable != field.is_required(), name


@pytest.mark.parametrize("name", ["inputs", "name", "shape", "datatype"])
def test_what_must_be_said_is_missed(name: str):
    body = as_json(np.zeros((1, 1, 8, 8), np.float32))
    (body if name == "inputs" else body["inputs"][0])[name] = None
    with pytest.raises(ServiceError, match=f"{name}: Field required"):
        read(schemas.InferRequest, json.dumps(body).encode())


def test_a_byte_order_mark_is_passed_over():
    assert read(schemas.IndexRequest, b'\xef\xbb\xbf{"ready": true}').ready
