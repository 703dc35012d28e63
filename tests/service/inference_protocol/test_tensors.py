import numpy as np
import pytest

from service.errors import Code, ServiceError
from service.inference_protocol import tensors
from service.inference_protocol.schemas import Datatype
from service.inference_protocol.tensors import DATATYPES, from_bytes, from_json, to_float32, to_latents, to_pixels

SHAPE = (2, 3)


def refusal(work, *arguments) -> str:
    with pytest.raises(ServiceError) as caught:
        work(*arguments)
    assert (caught.value.code, caught.value.details["field"]) == (Code.INVALID, "here")
    return str(caught.value)


def test_the_schema_names_the_datatypes_that_there_are():
    assert set(Datatype.__args__) == DATATYPES.keys()


@pytest.mark.parametrize("datatype", DATATYPES)
def test_bytes_and_json_of_the_same_numbers_are_the_same_tensor(datatype: str):
    values = np.array([[0, 1, 2], [3, 100, 1]], DATATYPES[datatype])
    sent = from_bytes(memoryview(values.tobytes()), datatype, SHAPE, "here")
    assert sent.dtype == DATATYPES[datatype]
    assert np.array_equal(to_float32(sent, "here"), values.astype(np.float32))
    if datatype == "FP16":
        assert "JSON has no FP16" in refusal(from_json, values.tolist(), datatype, SHAPE, "here")
        return
    for data in (values.tolist(), values.ravel().tolist()):
        assert np.array_equal(from_json(data, datatype, SHAPE, "here"), sent)


def test_a_tensor_of_its_own_is_made_wherever_in_a_body_the_bytes_lie():
    values = np.arange(6, dtype="<f4").reshape(SHAPE)
    for offset in range(4):
        body = memoryview(bytes(offset) + values.tobytes())[offset:]
        made = to_float32(from_bytes(body, "FP32", SHAPE, "here"), "here")
        assert np.array_equal(made, values)
        assert made.flags.aligned
        assert made.flags.writeable


@pytest.mark.parametrize("size", [0, 23, 25, 48])
def test_a_wrong_number_of_bytes_is_refused(size: int):
    assert "has 24 bytes" in refusal(from_bytes, memoryview(bytes(size)), "FP32", SHAPE, "here")


@pytest.mark.parametrize(
    ("datatype", "data", "said"),
    [
        ("FP32", [1.0] * 5, "data are [5]"),
        ("FP32", [[1.0] * 2] * 3, "data are [3, 2]"),
        ("FP32", [[1.0, 2.0], [3.0]], "not of one shape"),
        ("FP32", [], "data are [0]"),
        ("FP32", ["1"] * 6, "no numbers"),
        ("FP32", [None] * 6, "no numbers"),
        ("FP32", [True] * 6, "no numbers"),
        ("FP32", [{}] * 6, "no numbers"),
        ("FP32", ["9" * 2**20, *[""] * 2**20], "no numbers"),  # as an array of strings: 4 TiB
        ("UINT8", [1.5] * 6, "no numbers"),
        ("UINT8", [256] * 6, "beyond UINT8"),
        ("INT8", [-129] * 6, "beyond INT8"),
        ("UINT64", [-1] * 6, "beyond UINT64"),
        ("INT64", [2**64] * 6, "no numbers"),
    ],
)
def test_data_that_are_not_this_tensor_are_refused(datatype: str, data: list, said: str):
    assert said in refusal(from_json, data, datatype, SHAPE, "here")


@pytest.mark.parametrize(
    ("datatype", "value", "exact"),
    [
        ("FP64", 0.1, False),
        ("FP64", float(np.float32(0.1)), True),
        ("FP64", 1e300, False),
        ("FP64", -0.5, True),
        ("INT32", 2**24, True),
        ("INT32", 2**24 + 1, False),
        ("INT64", -(2**24), True),
        ("INT64", -(2**63), False),
        ("UINT64", 2**64 - 1, False),
        ("FP16", 0.1, True),
        ("UINT16", 65535, True),
    ],
)
def test_a_number_is_taken_exactly_or_not_at_all(datatype: str, value: float, exact: bool):
    array = np.array([value], DATATYPES[datatype])
    if exact:
        assert to_float32(array, "here")[0] == array[0]
    else:
        assert "send" in refusal(to_float32, array, "here")


def test_bytes_of_pixels_are_those_of_a_picture_and_all_else_lies_between_0_and_1():
    assert np.array_equal(to_pixels(np.array([0, 51, 255], np.uint8), "here"), np.float32([0, 0.2, 1]))
    assert np.array_equal(to_pixels(np.array([0, 1], np.int64), "here"), np.float32([0, 1]))
    assert "as UINT8" in refusal(to_pixels, np.array([0, 255], np.int32), "here")
    for bad in (-0.01, 1.01, np.nan, np.inf):
        assert "[0, 1]" in refusal(to_pixels, np.array([0.5, bad], np.float32), "here")


def test_latents_are_any_finite_numbers():
    assert np.array_equal(to_latents(np.array([200], np.uint8), "here"), np.float32([200]))
    for bad in (np.nan, np.inf):
        assert "finite" in refusal(to_latents, np.array([bad], np.float64), "here")
    assert "finite" in refusal(to_latents, from_json([1e300], "FP32", (1,), "here"), "here")


def test_every_output_has_a_name_in_the_protocol():
    assert all(tensors.DATATYPES[name] == dtype for dtype, name in tensors.NAMES.items())
