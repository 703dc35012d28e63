"""The protocol over HTTP, spoken by hand to a real server."""

import gzip
import json
import threading
import zlib
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from tests import zoo
from tests.service.conftest import MAX_BODY, Server, arrays, pixels
from tests.service.inference_protocol.bodies import JSON, as_bytes, as_json, outputs
from tests.service.test_metrics import change, counters
from tests.service.test_uploads import bring

INFER = "/v2/models/linear/infer"
PACK = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.fixture(scope="module")
def mine(client: httpx.Client) -> Iterator[str]:
    """Somebody's model, which runs in a child."""
    answer = bring(client, zoo.dense((1, 8, 8), last="Softmax"), name="oip-mine", classes=["a", "b", "c", "d", "e"])
    assert answer.status_code == 201, answer.text
    yield "oip-mine"
    assert client.delete("/models/oip-mine").status_code == 204


def images(n: int = 3) -> np.ndarray:
    return pixels(n).astype(np.float32) / 255


def told(answer: httpx.Response) -> tuple[int, str]:
    """A refusal in the protocol's shape, and no other."""
    assert answer.headers["x-request-id"]
    assert list(answer.json()) == ["error"]
    return answer.status_code, answer.json()["error"]


def test_the_server_tells_what_it_is_and_that_it_is_well(client: httpx.Client):
    server = client.get("/v2").json()
    assert server["name"] == "gauntlet"
    assert {"binary_tensor_data", "model_repository"} <= set(server["extensions"])
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("linear", [("images", [-1, 1, 8, 8])], ["logits", "probabilities", "label", "certified_radius"]),
        ("gen", [("latents", [-1, 4])], ["images"]),
    ],
)
def test_metadata_with_and_without_the_version(client: httpx.Client, name: str, inputs: list, outputs: list):
    model = client.get(f"/v2/models/{name}").json()
    (version,) = model["versions"]
    assert version == client.get(f"/models/{name}").json()["files"]["model.onnx"]
    assert [(tensor["name"], tensor["shape"]) for tensor in model["inputs"]] == inputs
    assert [tensor["name"] for tensor in model["outputs"]] == outputs
    assert client.get(f"/v2/models/{name}/versions/{version}").json() == model
    for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{version}"):
        assert client.get(f"{path}/ready").json() == {"name": name, "ready": True}
    for path in (f"/v2/models/{name}/versions/1", f"/v2/models/{name}/versions/1/ready", "/v2/models/nope/ready"):
        assert told(client.get(path))[0] == 404


def test_it_answers_as_classify_does(client: httpx.Client):
    typed = client.post("/classify", json={"model": "linear", "images": arrays(3)}).json()
    answer = client.post(INFER, json=as_json(images()))
    made = outputs(answer.content, answer.headers)
    assert answer.headers["content-type"] == "application/json"
    for i, prediction in enumerate(typed["predictions"]):
        assert made["label"][i] == prediction["label"]
        assert made["certified_radius"][i] == prediction["certified_radius"]
        assert np.allclose(made["probabilities"][i], prediction["probabilities"], atol=1e-12)
    versioned = f"/v2/models/linear/versions/{typed['model_sha256']}/infer"
    assert client.post(versioned, json=as_json(images())).json() == answer.json()


def test_bytes_both_ways(client: httpx.Client):
    body, headers = as_bytes(images(64), parameters={"binary_data_output": True})
    answer = client.post(INFER, content=body, headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert int(answer.headers["inference-header-content-length"]) < len(answer.content)
    plain = client.post(INFER, json=as_json(images(64)))
    for name, array in outputs(plain.content, plain.headers).items():
        assert np.array_equal(outputs(answer.content, answer.headers)[name], array)
    unlabelled = client.build_request("POST", INFER, content=body, headers=headers)
    del unlabelled.headers["content-type"]  # as tritonclient has it
    assert client.send(unlabelled).content == answer.content


@pytest.mark.parametrize("sent", [None, "gzip", "deflate"])
@pytest.mark.parametrize("accepted", ["identity", "gzip", "deflate"])
def test_compressed_both_ways(client: httpx.Client, sent: str | None, accepted: str):
    body, headers = as_bytes(images(), parameters={"binary_data_output": True})
    plain = client.post(INFER, content=body, headers={**headers, "Accept-Encoding": "identity"})
    packed = {"Content-Encoding": sent} if sent else {}
    with client.stream(
        "POST",
        INFER,
        content=PACK[sent](body) if sent else body,
        headers={**headers, **packed, "Accept-Encoding": accepted},
    ) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers.get("content-encoding", "identity") == accepted
    assert answer.headers["inference-header-content-length"] == plain.headers["inference-header-content-length"]
    expanded = {"identity": bytes, "gzip": gzip.decompress, "deflate": zlib.decompress}[accepted](raw)
    assert expanded == plain.content


def test_a_body_has_its_limit_before_and_after_it_is_expanded(client: httpx.Client):
    assert told(client.post(INFER, content=bytes(MAX_BODY + 1), headers=JSON))[0] == 413
    bomb = gzip.compress(bytes(50 * MAX_BODY))
    status, said = told(client.post(INFER, content=bomb, headers={**JSON, "Content-Encoding": "gzip"}))
    assert (status, str(MAX_BODY) in said) == (413, True)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", INFER, JSON, 400),
        ("POST", INFER, {"Content-Type": "text/plain"}, 415),
        ("POST", INFER, {**JSON, "Content-Encoding": "br"}, 415),
        ("POST", INFER, {**JSON, "Content-Encoding": "gzip"}, 400),
        ("POST", INFER, {**JSON, "Inference-Header-Content-Length": "x"}, 400),
        ("POST", "/v2/models/nope/infer", JSON, 404),
        ("POST", "/v2/models/linear/versions/1/infer", JSON, 404),
        ("GET", INFER, {}, 405),
        ("GET", "/v2/nope", {}, 404),
        ("POST", "/v2/repository/index", {"Content-Type": "text/plain"}, 415),
        ("POST", "/v2/repository/models/nope/load", {}, 404),
        ("POST", "/v2/repository/models/nope/unload", {}, 404),
        ("POST", "/v2/repository/models/.hidden/load", {}, 404),
    ],
)
def test_refusals_have_the_protocols_shape(client, method: str, path: str, headers: dict[str, str], status: int):
    content = b"{" if path.endswith("infer") and method == "POST" else b""
    assert told(client.request(method, path, content=content, headers=headers))[0] == status


def test_elsewhere_refusals_keep_the_envelope(client: httpx.Client):
    for path in ("/v2x", "/nope"):
        assert client.get(path).json()["error"]["code"] == "not_found"


def test_images_are_counted_as_those_of_classify(server: Server):
    before = server.metrics()
    answer = server.client.post(INFER, json=as_json(images()))
    server.client.post("/v2/models/nope/infer", json=as_json(images()))
    moved = change(before, server.metrics())
    route = 'method="POST",route="/v2/models/{name}/infer"'
    assert counters(moved) == {
        f'gauntlet_requests_total{{{route},status="200"}}': 1,
        f'gauntlet_requests_total{{{route},status="404"}}': 1,
        f"gauntlet_request_seconds_count{{{route}}}": 2,
        'gauntlet_images_total{model="linear",route="/v2/models/{name}/infer"}': 3,
        'gauntlet_certified_radius_count{model="linear"}': 3,
        'gauntlet_probability_margin_count{model="linear"}': 3,
    }
    made = outputs(answer.content, answer.headers)
    second, top = np.sort(made["probabilities"], axis=1)[:, -2:].T
    assert abs(moved['gauntlet_probability_margin_sum{model="linear"}'] - (top - second).sum()) < 1e-6
    assert abs(moved['gauntlet_certified_radius_sum{model="linear"}'] - made["certified_radius"].sum()) < 1e-9


def test_generated_images_are_counted(server: Server):
    before = server.metrics()
    server.client.post("/v2/models/gen/infer", json=as_json(np.zeros((5, 4), np.float32), "latents"))
    moved = change(before, server.metrics())
    assert moved['gauntlet_images_total{model="gen",route="/v2/models/{name}/infer"}'] == 5


def test_many_at_once_each_get_their_own(client: httpx.Client):
    answers: dict[int, np.ndarray] = {}

    def ask(seed: int) -> None:
        body, headers = as_bytes(pixels(5, seed).astype(np.float32) / 255)
        answer = client.post(INFER, content=body, headers=headers)
        answers[seed] = outputs(answer.content, answer.headers)["logits"]

    threads = [threading.Thread(target=ask, args=[seed]) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, made in answers.items():
        alone = client.post(INFER, json=as_json(pixels(5, seed).astype(np.float32) / 255))
        assert np.allclose(made, outputs(alone.content, alone.headers)["logits"], atol=1e-6)
    assert len(answers) == 16


def test_a_model_that_somebody_brought_is_one_like_any_other(client: httpx.Client, mine: str):
    model = client.get(f"/v2/models/{mine}").json()
    assert model["inputs"][0]["shape"] == [-1, 1, 8, 8]
    body, headers = as_bytes(images())
    answer = client.post(f"/v2/models/{mine}/infer", content=body, headers=headers)
    made = outputs(answer.content, answer.headers)
    typed = client.post("/classify", json={"model": mine, "images": arrays(3)}).json()["predictions"]
    assert made["label"].tolist() == [prediction["label"] for prediction in typed]
    assert made["logits"].shape == (3, 5)


@pytest.mark.parametrize("name", ["conv", "oip-mine"])
def test_unloaded_a_model_is_gone_until_it_is_loaded(client: httpx.Client, mine: str, name: str):
    def entry() -> dict[str, str]:
        return next(found for found in client.post("/v2/repository/index").json() if found["name"] == name)

    ready, classify = f"/v2/models/{name}/ready", {"model": name, "images": arrays(1)}
    assert (entry()["state"], client.get(ready).status_code) == ("READY", 200)
    before = client.post("/classify", json=classify).json()
    unloaded = {"parameters": {"unload_dependents": True}}
    assert client.post(f"/v2/repository/models/{name}/unload", json=unloaded).json() == {}
    try:
        assert (entry()["state"], entry()["reason"]) == ("UNAVAILABLE", "unloaded")
        loaded = client.post("/v2/repository/index", json={"ready": True}).json()
        assert name not in {found["name"] for found in loaded}
        assert loaded
        assert told(client.get(ready)) == told(client.get(f"/v2/models/{name}"))
        assert "has been unloaded" in told(client.post(f"/v2/models/{name}/infer", json=as_json(images())))[1]
        refused = client.post("/classify", json=classify)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "unknown_model")
        assert name not in {model["name"] for model in client.get("/models").json()["models"]}
        taken = bring(client, zoo.dense((1, 8, 8)), name=name)
        assert taken.json()["error"]["code"] == "name_taken"
        assert told(client.post(f"/v2/repository/models/{name}/unload"))[0] == 404
    finally:
        assert client.post(f"/v2/repository/models/{name}/load").json() == {}
    assert client.get(ready).status_code == 200
    assert entry()["state"] == "READY"
    assert client.post("/classify", json=classify).json() == before


def test_a_folder_dropped_later_can_be_loaded(server: Server, client: httpx.Client):
    folder = server.folder / "models" / "artifacts" / "late"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"not a graph")
    (late,) = [entry for entry in client.post("/v2/repository/index").json() if entry["name"] == "late"]
    assert (late["state"], late["reason"]) == ("UNAVAILABLE", "not loaded yet")
    assert told(client.post("/v2/repository/models/late/load"))[0] == 422
    (folder / "model.onnx").write_bytes(zoo.dense((1, 8, 8)))
    assert client.post("/v2/repository/models/late/load").json() == {}
    assert client.get("/v2/models/late/ready").status_code == 200
    (folder / "model.onnx").unlink()
    folder.rmdir()
    assert client.delete("/models/late").status_code == 204
    assert told(client.post("/v2/repository/models/late/load"))[0] == 404


def test_configurations_are_not_taken(client: httpx.Client):
    body = {"parameters": {"config": json.dumps({"backend": "onnxruntime"})}}
    assert told(client.post("/v2/repository/models/conv/load", json=body))[0] == 422
