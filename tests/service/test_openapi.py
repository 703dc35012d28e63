import re
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import TypeAdapter

from service.endpoint import Endpoint
from service.endpoints import openapi
from service.endpoints.routes import ENDPOINTS
from tests.service.conftest import SHORT_REPORT, Server, arrays
from tests.service.inference_protocol.bodies import as_json

OIP_INFER = "/v2/models/{name}/infer"
CALLS = {
    "/classify": {"model": "linear", "images": arrays(1)},
    "/generate": {"model": "gen", "n": 1},
    "/pictures": {"model": "linear", "images": arrays(1)},
    "/attack": {"model": "linear", "attack": "fgsm", "images": arrays(1), "norm": "l2", "eps": 0.1, "labels": [0]},
    "/certify": {"model": "linear", "images": arrays(1), "eps": 0.01, "budget_seconds": 5.0},
    "/robustness-report": SHORT_REPORT,
    OIP_INFER: as_json(np.float32(arrays(1))),
}


@pytest.fixture(scope="module")
def report(server: Server) -> str:
    """The id of one that has ended."""
    made = server.submit(SHORT_REPORT)
    server.finished(made)
    return made


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    return client.get("/openapi.json").json()


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for value in node.values() for ref in references(value)]
    return [ref for value in node for ref in references(value)] if isinstance(node, list) else []


def test_it_is_3_1_and_every_reference_leads_somewhere(document: dict[str, Any]):
    assert document["openapi"].startswith("3.1.")
    refs = references(document)
    assert len(refs) > 50
    for ref in set(refs):
        assert ref.rsplit("/", 1)[1] in document["components"]["schemas"], ref
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)


def test_it_lists_the_endpoints_that_there_are_and_bentomls_client_knows_the_main_calls(
    document: dict[str, Any], client: httpx.Client
):
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert listed == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    main = {route["route"] for route in client.get("/schema.json").json()["routes"]}
    assert main == {"/classify", "/pictures", "/generate", "/attack", "/certify", "/robustness-report"}


def test_parameters_are_those_of_the_path(document: dict[str, Any]):
    for path, methods in document["paths"].items():
        for operation in methods.values():
            named = {entry["name"] for entry in operation["parameters"] if entry["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))


def test_pages_load_nothing_from_anywhere(report: str, server: Server):
    for path, named in (("/", "Gauntlet"), (f"/robustness-report/{report}/html", "linear")):
        answer = server.client.get(path)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", answer.text)
        assert named in answer.text


def test_every_route_answers_as_it_says(document: dict[str, Any], report: str, server: Server):
    """Deletes the report."""
    deletes = [route for route in ENDPOINTS if route.method == "DELETE"]
    for route in [route for route in ENDPOINTS if route not in deletes] + deletes:
        answer = _call(server.client, route, report)
        said = document["paths"][route.path][route.method.lower()]["responses"]
        assert str(answer.status_code) in said, (route.path, answer.text)
        content = said[str(answer.status_code)].get("content", {})
        if content:
            assert answer.headers["content-type"].split(";")[0] in {media.split(";")[0] for media in content}
        if answer.status_code in route.answers and (model := route.answers[answer.status_code]) is not None:
            kinds = model if isinstance(model, tuple) else (model,)
            assert any(_fits(kind, answer.content) for kind in kinds), route.path
        if "body" not in said and route.body is not None:
            wrong = server.client.post(route.path, json={"surprise": 1})
            assert str(wrong.status_code) in said


def _call(client: httpx.Client, route: Endpoint, report: str) -> httpx.Response:
    path = route.path.replace("{id}", report).replace("{name}", "conv")
    return client.request(route.method, path, json=CALLS.get(route.path) if route.method == "POST" else None)


def _fits(kind: Any, body: bytes) -> bool:
    try:
        TypeAdapter(kind).validate_json(body)
    except ValueError:
        return False
    return True


def test_tensors_may_be_bytes_and_errors_have_the_protocols_shape(document: dict[str, Any]):
    infer = document["paths"][OIP_INFER]["post"]
    for content in (infer["requestBody"]["content"], infer["responses"]["200"]["content"]):
        assert content.keys() == {"application/json", "application/octet-stream"}
    for path, methods in document["paths"].items():
        shape = "Failure" if path.startswith("/v2") else "Envelope"
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert answer["content"]["application/json"]["schema"]["$ref"].endswith(f"/{shape}")


def test_it_says_which_bodies_may_be_left_out_and_what_an_upload_has(document: dict[str, Any], client: httpx.Client):
    bodies = {
        path: ways["post"]["requestBody"]
        for path, ways in document["paths"].items()
        if "post" in ways and "requestBody" in ways["post"]
    }
    empty = {path for path, body in bodies.items() if not body["required"]}
    assert empty == {path for path in bodies if path.startswith("/v2/repository/")}
    assert client.post("/v2/repository/index").status_code == 200
    parts = bodies["/models"]["content"]["multipart/form-data"]["schema"]
    assert (sorted(parts["required"]), parts["additionalProperties"]) == (["settings"], False)
    assert (sorted(parts["properties"]), parts["properties"]["weights"]["type"]) == (
        ["classes", "file", "settings", "weights"],
        "array",
    )
    assert "weights" not in bodies["/evalsets"]["content"]["multipart/form-data"]["schema"]["properties"]
    both = {"files": {"file": ("model.onnx", b"x")}, "data": {"settings": "{}", "more": "1"}}
    assert client.post("/models", **both).status_code == 400


def test_who_guesses_keys_is_metered_wherever_one_is_needed():
    needing = [
        way
        for ways in openapi.document(ENDPOINTS, keyed=True)["paths"].values()
        for way in ways.values()
        if way["security"]
    ]
    assert len(needing) > 20
    assert all("429" in way["responses"] for way in needing)
