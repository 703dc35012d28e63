"""A body of JSON cannot keep everybody else waiting: it is counted before it is parsed, and one fault is enough."""

import json

import pytest
from pydantic import BaseModel, ValidationError

from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.report.schema import ReportRequest
from service.errors import ServiceError
from service.inference_protocol.message import read
from service.inference_protocol.schemas import InferRequest
from service.schemas.json_limits import LIMITS, JsonLimits
from service.schemas.main_calls import AttackRequest, ClassifyRequest, GenerateRequest
from tests.service.in_process import Caller, door, told

BOMBS = {b",": b"0,", b"[": b"[],", b"{": b"{},", b":": b'"a":0,'}


def bomb(mark: bytes) -> bytes:
    inside = BOMBS[mark] * (LIMITS[mark][0] + 1) + b"0"
    return b'{"images":{' + inside + b"}}" if mark == b":" else b'{"images":[' + inside + b"]}"


@pytest.mark.parametrize("mark", LIMITS)
def test_more_of_anything_than_a_request_can_need_is_refused(mark: bytes) -> None:
    answer = Caller(door())("POST", "/classify", content=bomb(mark), headers={"Content-Type": "application/json"})
    assert told(answer)["code"] == "too_large"
    assert LIMITS[mark][1] in told(answer)["message"]
    with pytest.raises(ServiceError, match=LIMITS[mark][1]):
        read(InferRequest, bomb(mark))


def test_the_most_images_there_may_be_pass_as_numbers() -> None:
    row = ",".join(["0.1"] * 32)
    image = "[" + ",".join(["[" + ",".join(["[" + row + "]"] * 32) + "]"] * 3) + "]"
    body = '{"model": "m", "images": [' + ",".join([image] * 1024) + "]}"
    values = JsonLimits()
    for first in range(0, len(body), 65536):
        values.take(body[first : first + 65536].encode())


def test_bytes_are_not_json() -> None:
    content = b"," * (LIMITS[b","][0] + 1)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "0"}
    answer = Caller(door())("POST", "/v2/models/m/infer", content=content, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"size": len(content)})


@pytest.mark.parametrize(
    ("kind", "field", "around"),
    [
        (ClassifyRequest, "images", "{}"),
        (GenerateRequest, "latents", "{}"),
        (GenerateRequest, "latents", "[{}]"),
        *((AttackRequest, field, "{}") for field in ("images", "labels", "target_labels", "transfer_to")),
        *((ReportRequest, field, "{}") for field in ("models", "attacks", "threats")),
        (ReportRequest, "threats", '[{{"norm": "l2", "eps": {}}}]'),
        (InferRequest, "inputs", "{}"),
        (InferRequest, "outputs", "{}"),
        (InferRequest, "inputs", '[{{"name": "x", "datatype": "FP32", "shape": {}}}]'),
        *((ModelSettings, field, "{}") for field in ("classes", "input_shape", "mean", "std")),
    ],
)
def test_the_first_bad_element_of_a_list_is_the_last(kind: type[BaseModel], field: str, around: str) -> None:
    """A complaint for each of the sixteen million that fit into a body took two minutes and all memory."""
    wrong = around.format(json.dumps([None] * 1000))
    with pytest.raises(ValidationError) as caught:
        kind.model_validate_json(f'{{"{field}": {wrong}}}')
    assert sum(problem["loc"][0] == field for problem in caught.value.errors()) <= 2
