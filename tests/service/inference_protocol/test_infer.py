"""What goes in and what comes out, without a server."""

import json
from typing import Any

import numpy as np
import pytest

from gauntlet.errors import GauntletError
from service.errors import Code, ServiceError
from service.inference_protocol.inference import InferCall, infer
from service.predictions.served_models import ServedModels
from service.settings import Settings
from tests import tiny
from tests.service.conftest import pixels
from tests.service.inference_protocol.bodies import as_bytes, as_json, outputs
from tests.service.models import served_models

LIMIT = 8
LIMITS = {"max_images": LIMIT, "max_body": 100_000}
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ServedModels:
    folder = tmp_path_factory.mktemp("v2")
    tiny.linear(folder / "artifacts" / "linear")
    tiny.generator(folder / "artifacts" / "gen")
    return served_models(Settings(models=folder, state=folder, threads=1))


def ask(
    models: ServedModels, body: bytes | dict, headers: dict[str, str] | None = None, name: str = "linear", **more: Any
):
    """The tensors of the answer, and its JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    length = (headers or {}).get(LENGTH)
    call = {"version": None, "body": raw, "length": length, "accepted": "", "max_images": LIMIT, **more}
    made = infer(models.get(name), InferCall(**call))
    found = outputs(made.body, {} if made.length is None else {LENGTH: str(made.length)})
    return found, json.loads(made.body[: made.length])


def images(n: int = 3) -> np.ndarray:
    return pixels(n).astype(np.float32) / 255


def logits(x: np.ndarray) -> np.ndarray:
    weight = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    weight -= weight.mean(axis=1, keepdims=True)
    return x.reshape(len(x), 64).astype(np.float64) @ weight.T.astype(np.float64)


def test_a_classifier_says_all_it_knows_and_it_is_right(models: ServedModels):
    x = images()
    made, head = ask(models, as_json(x, id="mine"))
    exact = logits(x)
    assert (head["id"], head["model_name"]) == ("mine", "linear")
    assert head["model_version"] == models.get("linear").manifest.model_sha256
    assert list(made) == ["logits", "probabilities", "label", "certified_radius"]
    assert np.allclose(made["logits"], exact, atol=1e-5)
    assert np.allclose(made["probabilities"], np.exp(exact) / np.exp(exact).sum(1, keepdims=True), atol=1e-6)
    assert made["label"].tolist() == exact.argmax(1).tolist()
    assert (made["certified_radius"] > 0).all()


def test_json_and_bytes_carry_the_same_bits_both_ways(models: ServedModels):
    x = images()
    body, headers = as_bytes(x)
    every = [
        ask(models, as_json(x)),
        ask(models, body, headers),
        ask(models, as_json(x, parameters={"binary_data_output": True})),
        ask(models, *as_bytes(x, parameters={"binary_data_output": True})),
        ask(models, {"inputs": [{**as_json(x)["inputs"][0], "data": x.tolist()}]}),
    ]
    for made, head in every:
        assert all(np.array_equal(made[name], every[0][0][name]) for name in made)
        assert "id" not in head
    assert "data" in every[1][1]["outputs"][0]
    assert "data" not in every[2][1]["outputs"][0]


def test_outputs_come_as_asked_and_in_that_order(models: ServedModels):
    wanted = [
        {"name": "label", "parameters": {"binary_data": True}},
        {"name": "logits"},
        {"name": "certified_radius", "parameters": {"binary_data": False}},
    ]
    _, head = ask(models, as_json(images(), outputs=wanted))
    assert [(entry["name"], "data" in entry) for entry in head["outputs"]] == [
        ("label", False),
        ("logits", True),
        ("certified_radius", True),
    ]
    _, head = ask(models, as_json(images(), outputs=wanted, parameters={"binary_data_output": True}))
    assert ["data" in entry for entry in head["outputs"]] == [False, False, True]


def test_8_bit_pixels_are_the_picture(models: ServedModels):
    bits, _ = ask(models, *as_bytes(pixels(3), datatype="UINT8"))
    assert np.array_equal(bits["logits"], ask(models, as_json(images()))[0]["logits"])
    assert np.array_equal(bits["logits"], ask(models, as_json(pixels(3), datatype="UINT8"))[0]["logits"])
    half = images().astype(np.float16)
    made, _ = ask(models, *as_bytes(half, datatype="FP16"))
    assert np.array_equal(made["logits"], ask(models, as_json(half.astype(np.float32)))[0]["logits"])


def test_a_generator_draws_what_generate_draws(models: ServedModels):
    latents = np.random.default_rng(0).normal(size=(LIMIT, 4)).astype(np.float32)
    made, head = ask(models, *as_bytes(latents, "latents", parameters={"binary_data_output": True}), name="gen")
    drawn = models.generator("gen").generate(latents)
    assert np.array_equal(made["images"], drawn)
    assert head["outputs"][0]["shape"] == [LIMIT, 1, 8, 8]


def test_a_body_without_json_is_one_fp32_tensor(models: ServedModels):
    made, head = ask(models, images().tobytes(), {LENGTH: "0"})
    assert np.array_equal(made["logits"], ask(models, as_json(images()))[0]["logits"])
    assert "data" not in head["outputs"][0]


def test_what_the_protocol_does_not_define_is_left_alone(models: ServedModels):
    body = as_json(images(), model_name="linear", parameters={"priority": 3, "mine": "x"})
    body["inputs"][0]["parameters"] = {"content_type": "np"}
    assert ask(models, body)[0]["label"].shape == (3,)


def changed(**of_input: Any) -> dict[str, Any]:
    body = as_json(images())
    body["inputs"][0].update(of_input)
    return body


RAW, KIND = as_bytes(images())
BAD: list[tuple[bytes | dict, dict[str, Any], Code, str]] = [
    (b"", {}, Code.MALFORMED, "not a JSON object"),
    (b"[]", {}, Code.MALFORMED, "not a JSON object"),
    (b"\xff\xfe", {}, Code.MALFORMED, "not a JSON object"),
    (b"[" * 10_000, {}, Code.MALFORMED, "not a JSON object"),
    ({}, {}, Code.INVALID, "inputs"),
    ({"inputs": []}, {}, Code.INVALID, "inputs"),
    ({"inputs": as_json(images())["inputs"] * 2}, {}, Code.INVALID, "inputs"),
    (as_json(images(), outputs=[{"name": "nope"}]), {}, Code.INVALID, "there are logits, probabilities"),
    (
        as_json(images(), outputs=[{"name": "logits", "parameters": {"classification": 2}}]),
        {},
        Code.INVALID,
        "not offered",
    ),
    (as_json(images(), parameters={"sequence_id": 1}), {}, Code.INVALID, "not offered"),
    (as_json(images(), id=3), {}, Code.INVALID, "id"),
    (changed(name="x"), {}, Code.INVALID, "the model's input is 'images'"),
    (changed(datatype="BYTES"), {}, Code.INVALID, "datatype"),
    (changed(shape=[]), {}, Code.INVALID, "shape"),
    (changed(shape=[3, 64]), {}, Code.INVALID, "[-1, 1, 8, 8]"),
    (changed(shape=[0, 1, 8, 8]), {}, Code.INVALID, "one or more"),
    (changed(shape=[-3, 1, 8, 8]), {}, Code.INVALID, "one or more"),
    (changed(shape=[LIMIT + 1, 1, 8, 8]), {}, Code.INVALID, f"at most {LIMIT} images"),
    (changed(shape=[2**70, 1, 8, 8]), {}, Code.INVALID, "shape"),
    (changed(data=None), {}, Code.INVALID, "send either data"),
    (changed(data=0.5), {}, Code.INVALID, "data"),
    (changed(data=[2.0] * 192), {}, Code.INVALID, "[0, 1]"),
    (changed(data=[float("nan")] * 192), {}, Code.INVALID, "[0, 1]"),
    (changed(parameters={"binary_data_size": 768}), {}, Code.INVALID, "send either data"),
    (changed(parameters={"binary_data_size": -1}), {}, Code.INVALID, "binary_data_size"),
    (changed(parameters={"shared_memory_region": "x"}, data=None), {}, Code.INVALID, "not offered"),
    (RAW[:-1], KIND, Code.INVALID, "the bytes behind the JSON are 767"),
    (RAW + b"x", KIND, Code.INVALID, "the bytes behind the JSON are 769"),
    (RAW, {}, Code.MALFORMED, "not a JSON object"),
    (RAW, {LENGTH: "-1"}, Code.MALFORMED, LENGTH),
    (RAW, {LENGTH: "many"}, Code.MALFORMED, LENGTH),
    (RAW, {LENGTH: str(len(RAW) + 1)}, Code.MALFORMED, LENGTH),
    (RAW, {LENGTH: "9" * 5000}, Code.MALFORMED, LENGTH),
    (RAW, {LENGTH: "20"}, Code.MALFORMED, "not a JSON object"),
    (b"", {LENGTH: "0"}, Code.INVALID, "one or more"),
    (bytes(257), {LENGTH: "0"}, Code.INVALID, "256 bytes"),
    (as_json(images(), "latents"), {"name": "gen"}, Code.INVALID, "[-1, 4]"),
    (as_json(images()), {"name": "nope"}, Code.UNKNOWN_MODEL, "there are gen, linear"),
    (as_json(images()), {"version": "1"}, Code.UNKNOWN_MODEL, "and no other"),
]


@pytest.mark.parametrize(("body", "how", "code", "said"), BAD, ids=range(len(BAD)))
def test_what_is_wrong_is_refused_in_words(models: ServedModels, body: Any, how: dict[str, Any], code: Code, said: str):
    headers = {name: value for name, value in how.items() if name == LENGTH}
    with pytest.raises((ServiceError, GauntletError)) as caught:
        ask(models, body, headers, **{name: value for name, value in how.items() if name[0].islower()})
    assert caught.value.code is code
    assert said in str(caught.value)


def test_no_body_is_beyond_words(models: ServedModels):
    """Bytes of good bodies changed, cut out and doubled at random: refused in words or answered, never a surprise."""
    draw = np.random.default_rng(0)
    texts = [json.dumps(as_json(images(1))).encode(), RAW, RAW[: int(KIND[LENGTH])]]
    codes = []
    for _ in range(600):
        body = bytearray(texts[draw.integers(len(texts))])
        for _ in range(draw.integers(1, 4)):
            at, size = int(draw.integers(len(body))), int(draw.integers(1, 9))
            match draw.integers(3):
                case 0:
                    body[at : at + size] = draw.bytes(size)
                case 1:
                    del body[at : at + size]
                case _:
                    body[at:at] = body[at : at + size]
        length = [None, KIND[LENGTH], "0", str(draw.integers(len(body) + 2))][draw.integers(4)]
        try:
            infer(models.get("linear"), InferCall(None, bytes(body), length, "", LIMIT))
        except ServiceError as error:
            codes.append(error.code)
    assert set(codes) == {Code.MALFORMED, Code.INVALID}
    assert len(codes) > 100
