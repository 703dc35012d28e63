"""Models and images that users bring: one server, its real child processes."""

import contextlib
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import psutil
import pytest
from PIL import Image

from service.uploads.models import OPEN
from tests import cases, hostile, tiny, zoo
from tests.service.conftest import Server, arrays, wait_for

CLASSES = ["a", "b", "c", "d", "e"]


def bring(client: httpx.Client, data: bytes, path: str = "/models", **settings: Any) -> httpx.Response:
    return client.post(path, files={"file": ("file", data)}, data={"settings": json.dumps(settings)})


def images(n: int = 6, size: int = 8) -> list[Any]:
    return (np.random.default_rng(3).integers(0, 256, (n, 1, size, size)) / 255).tolist()


def packed(**content: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **content)
    return buffer.getvalue()


def assert_not_there(client: httpx.Client, name: str, *, looked_at: bool = True) -> None:
    """Nothing is left of a refused model but its reason, where its file was looked at."""
    found = client.get(f"/models/{name}")
    if looked_at:
        assert (found.json()["state"], found.json()["error"]["code"]) == ("failed", "invalid")
        assert client.delete(f"/models/{name}").status_code == 204
        found = client.get(f"/models/{name}")
    assert found.status_code == 404


@pytest.fixture(scope="module")
def mine(client: httpx.Client) -> Iterator[dict[str, Any]]:
    answer = bring(client, zoo.dense((1, 8, 8), last="Softmax"), name="mine", classes=CLASSES)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == "/models/mine"
    yield answer.json()
    assert client.delete("/models/mine").status_code == 204


@pytest.fixture(scope="module")
def trees(client: httpx.Client) -> Iterator[dict[str, Any]]:
    answer = bring(client, zoo.trees(), name="trees")
    assert answer.status_code == 201, answer.text
    yield answer.json()
    assert client.delete("/models/trees").status_code == 204


@pytest.fixture(scope="module")
def own_images(client: httpx.Client) -> Iterator[str]:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    data = packed(images=pixels, labels=np.arange(20) % 5, classes=np.array(CLASSES))
    answer = bring(client, data, "/evalsets", name="own-images", licence="mine")
    assert answer.status_code == 201, answer.text
    yield "own-images"
    assert client.delete("/evalsets/own-images").status_code == 204


def test_a_model_is_taken_with_its_guesses_shown(mine: dict[str, Any], client: httpx.Client):
    manifest, certificate = mine["manifest"], mine["certificate"]
    assert manifest["gradients"] == "verified"
    assert manifest["adoption"]["choices"]["output"]["value"] == "probabilities"
    assert not manifest["adoption"]["choices"]["layout"]["given"]
    assert certificate["lipschitz"] >= certificate["steepest"] > 0
    assert certificate["looseness"] == pytest.approx(certificate["lipschitz"] / certificate["steepest"])
    assert client.get("/models/mine").json() == {**manifest, "state": "ready", "certificate": certificate}
    assert manifest in client.get("/models").json()["models"]


def test_a_temperature_is_fitted_on_a_part_of_an_evaluation_set(mine: Any, own_images: str, client: httpx.Client):
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (120, 8, 8), dtype=np.uint8)
    data = packed(images=pixels, labels=random.integers(0, 5, 120), classes=np.array(CLASSES))
    assert bring(client, data, "/evalsets", name="enough").status_code == 201
    network = zoo.dense((1, 8, 8), last="Softmax")
    answer = bring(client, network, name="cool", classes=CLASSES, calibration_set="enough")
    manifest = answer.json()["manifest"]
    assert manifest["adoption"]["choices"]["temperature"]["reason"] == "fitted on 60 of 120 images of enough"
    assert manifest["temperature"] > 2  # labels by chance: nothing is certain
    before, after = (
        client.post("/classify", json={"model": name, "images": images()}).json()["predictions"]
        for name in ("mine", "cool")
    )
    for own, other in zip(before, after, strict=True):
        powers = np.power(own["probabilities"], 1 / manifest["temperature"])
        assert other["probabilities"] == pytest.approx(list(powers / powers.sum()), rel=1e-4)
        assert (own["label"], own["margin"]) == (other["label"], pytest.approx(other["margin"]))
    small = bring(client, network, name="small", classes=CLASSES, calibration_set=own_images).json()["manifest"]
    assert small["temperature"] == 1
    assert "too few" in small["adoption"]["choices"]["temperature"]["reason"]
    for name in ("cool", "small"):
        assert client.delete(f"/models/{name}").status_code == 204
    assert client.delete("/evalsets/enough").status_code == 204


@pytest.mark.parametrize(("size", "name", "status"), [(8, "none-such", 404), (9, "own-images", 422)])
def test_a_calibration_set_that_does_not_fit_is_named(
    own_images: str, client: httpx.Client, size: int, name: str, status: int
):
    answer = bring(client, zoo.dense((1, size, size)), name="bad", calibration_set=name)
    assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (status, "calibration_set")
    assert_not_there(client, "bad", looked_at=status == 422)


def test_it_is_classified_certified_and_attacked_like_any_other(mine: dict[str, Any], client: httpx.Client):
    body = {"model": "mine", "images": images()}
    predictions = client.post("/classify", json=body).json()["predictions"]
    assert {prediction["class_name"] for prediction in predictions} <= set(CLASSES)
    assert all(prediction["certificate"]["lipschitz"] == mine["certificate"]["lipschitz"] for prediction in predictions)
    attack = {**body, "attack": "pgd", "norm": "linf", "eps": 0.2, "format": "array"}
    answer = client.post("/attack", json=attack)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert sum(result["success"] for result in results) >= 5
    fooled = [result for result in results if result["success"]]
    again = client.post("/classify", json={"model": "mine", "images": [result["image"] for result in fooled]}).json()
    assert [p["label"] for p in again["predictions"]] == [result["adversarial_label"] for result in fooled]


def test_without_gradients_black_box_attacks_are_left(trees: dict[str, Any], client: httpx.Client):
    assert trees["manifest"]["gradients"].startswith("none (")
    assert trees["certificate"]["lipschitz"] is None
    body = {"model": "trees", "images": images(), "norm": "linf", "eps": 0.5}
    refused = client.post("/attack", json={**body, "attack": "pgd"})
    assert refused.status_code == 422
    assert "square" in refused.json()["error"]["message"]
    attacked = client.post("/attack", json={**body, "attack": "square", "params": {"queries": 200}})
    assert attacked.json()["summary"]["success_rate"] > 0.5


def test_a_report_on_a_model_and_images_of_ones_own(mine: Any, own_images: str, server: Server):
    body = {
        "models": ["mine"],
        "dataset": own_images,
        "n": 8,
        "attacks": ["pgd"],
        "threats": [{"norm": "l2", "eps": [0.2]}],
    }
    with server.held():
        report = server.submit(body)
        for path in ("/models/mine", f"/evalsets/{own_images}"):
            held = server.client.delete(path)
            assert held.status_code == 409, held.text
            assert held.json()["error"]["code"] == "in_use"
    done = server.finished(report)
    assert done["status"] == "succeeded", done
    assert done["report"]["models"][0]["sha256"] == mine["manifest"]["files"]["model.onnx"]
    assert done["report"]["evalset"]["licence"] == "mine"


@pytest.mark.slow
def test_more_models_at_once_than_are_kept_open(own_images: str, server: Server):
    names = [f"of-many-{i}" for i in range(OPEN + 1)]
    for i, name in enumerate(names):
        assert bring(server.client, zoo.dense((1, 8, 8), seed=i), name=name, classes=CLASSES).status_code == 201
    body = {"models": names, "dataset": own_images, "n": 2, "attacks": ["fgsm"]}
    done = server.finished(server.submit({**body, "threats": [{"norm": "l2", "eps": [0.2]}]}))
    assert done["status"] == "succeeded", done
    picture = {"model": names[0], "attack": "fgsm", "norm": "l2", "eps": 0.2, "format": "array", "images": images(2)}
    answer = server.client.post("/attack", json={**picture, "transfer_to": names[1:]})
    assert answer.status_code == 200, answer.text
    for name in names:
        assert server.client.delete(f"/models/{name}").status_code == 204


def test_a_report_on_a_model_without_gradients_raises_the_alarm(trees: Any, server: Server):
    pixels = np.random.default_rng(1).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    name = "three-classes"
    data = packed(images=pixels, labels=np.arange(6) % 3, classes=np.array(["high", "low", "middle"]))
    assert bring(server.client, data, "/evalsets", name=name).status_code == 201
    body = {"models": ["trees"], "dataset": name, "n": 6, "threats": [{"norm": "linf", "eps": [0.3]}]}
    refused = server.client.post("/robustness-report", json={**body, "attacks": ["pgd"]})
    assert (refused.status_code, refused.json()["error"]["details"]["field"]) == (422, "attacks.0")
    done = server.finished(server.submit({**body, "attacks": ["square"]}))
    assert done["status"] == "succeeded", done
    alarms = [check["name"] for check in done["report"]["models"][0]["checks"] if not check["passed"]]
    assert alarms == ["gradients are there"]
    assert done["sound"] is False
    assert server.client.delete(f"/evalsets/{name}").status_code == 204


def test_taken_names_and_what_came_with_the_service(mine: Any, client: httpx.Client):
    for name in ("mine", "linear", "reload"):
        answer = bring(client, zoo.dense((1, 8, 8)), name=name)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "name_taken")
    for path in ("/models/linear", "/evalsets/tiny"):
        answer = client.delete(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "built_in")
    assert client.delete("/models/nobody").status_code == 404
    assert client.delete("/evalsets/nobody").status_code == 404


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, "name"),
        ({"name": "No Name"}, "name"),
        ({"name": "m", "surprise": 1}, "surprise"),
        ({"name": "m", "classes": ["a", "b"]}, "classes"),
        ({"name": "m", "input_shape": [1, 9, 9]}, "input_shape"),
        ({"name": "m", "std": [0]}, "std.0"),
        ({"name": "m", "input_shape": [2, 8, 8]}, "input_shape.0"),
        ({"name": "m", "input_shape": ["1", 8, 8]}, "input_shape.0"),
    ],
)
def test_settings_that_do_not_fit_are_named(client: httpx.Client, settings: dict[str, Any], field: str):
    answer = bring(client, zoo.dense((1, 8, 8)), **settings)
    assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (422, field)


def test_bodies_that_are_no_upload(client: httpx.Client):
    assert client.post("/models", json={"name": "m"}).status_code == 415
    assert client.post("/models", data={"settings": "{}"}, files={"other": b"x"}).status_code == 422
    broken = client.post("/models", content=b"nothing", headers={"content-type": "multipart/form-data; boundary=x"})
    assert broken.status_code in (400, 422)
    missing = client.post("/models", content=b"nothing", headers={"content-type": "multipart/form-data"})
    assert missing.status_code == 400
    unreadable = client.post("/models", files={"file": ("f", b"x")}, data={"settings": "{"})
    assert (unreadable.status_code, unreadable.json()["error"]["code"]) == (400, "malformed")
    assert bring(client, bytes(3 * 2**20), name="m").status_code == 413


SAMPLE = {family: next(iter(files())) for family, files in hostile.FAMILIES.items() if family != "slow"}


@pytest.mark.parametrize("family", SAMPLE)
def test_a_hostile_file_is_refused_and_harms_nobody(server: Server, family: str):
    before = server.process.pid, server.client.post("/classify", json={"model": "linear", "images": arrays(1)}).json()
    answer = bring(server.client, SAMPLE[family], name="hostile")
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["error"]["message"]
    after = server.process.pid, server.client.post("/classify", json={"model": "linear", "images": arrays(1)}).json()
    assert before == after


@pytest.mark.slow
def test_two_hundred_hostile_files_are_refused_and_the_service_is_unharmed(server: Server):
    probe = {"model": "linear", "images": arrays(1)}
    before = server.process.pid, server.client.post("/classify", json=probe).json()
    files = [(family, i, data) for family, made in hostile.FAMILIES.items() for i, data in enumerate(made())]
    assert len(files) >= 200
    wrong = {}
    for family, i, data in files:
        answer = bring(server.client, data, name="hostile")
        if not 400 <= answer.status_code < 500:
            wrong[family, i] = (answer.status_code, answer.text[:200])
    assert wrong == {}
    assert (server.process.pid, server.client.post("/classify", json=probe).json()) == before
    assert "hostile" not in {model["name"] for model in server.client.get("/models").json()["models"]}


def children(server: Server) -> list[psutil.Process]:
    """Those that run models: children of a fork server. The worker's come and go as well."""
    found = []
    for process in server.tree():
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = process.parent()
            if (
                parent
                and "gauntlet.sandbox.fork_server_main" in parent.cmdline()
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
    return found


def killed(found: list[psutil.Process]) -> None:
    for child in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def test_a_model_whose_process_died_while_idle_is_opened_again(mine: Any, server: Server):
    body = {"model": "mine", "images": images(1)}
    assert server.client.post("/classify", json=body).status_code == 200
    killed(children(server))
    wait_for(lambda: not children(server))
    assert server.client.post("/classify", json=body).status_code == 200


def test_a_model_whose_process_dies_while_it_answers_is_a_503_and_nobody_elses(mine: Any, server: Server):
    body = {"model": "mine", "images": images(1)}
    assert server.client.post("/classify", json=body).status_code == 200
    asking = [child for child in children(server) if server.compute() in child.parents()]
    before = sum(child.cpu_times().user for child in asking)
    long = {**body, "attack": "pgd", "norm": "l2", "eps": 1e-4, "params": {"steps": 10_000, "restarts": 5}}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.client.post, "/attack", json=long)
        wait_for(lambda: asked.done() or sum(child.cpu_times().user for child in asking) > before + 0.3)
        killed(asking)
        lost = asked.result()
    assert (lost.status_code, lost.json()["error"]["code"]) == (503, "model_failed")
    assert "retry-after" in lost.headers
    assert server.client.post("/classify", json={"model": "linear", "images": arrays(1)}).status_code == 200
    assert server.client.post("/classify", json=body).status_code == 200


def test_nobody_in_a_child_knows_the_database(mine: Any, server: Server):
    assert server.client.post("/classify", json={"model": "mine", "images": images(1)}).status_code == 200
    (*_, child) = children(server)
    assert not [name for name in child.environ() if name.startswith("GAUNTLET_")]


def test_a_folder_is_taken_in_while_the_service_runs(own_images: str, server: Server):
    root = server.folder / "models" / "artifacts"
    tiny.linear(root / "dropped", seed=7)
    (root / "raw").mkdir()
    (root / "raw" / "model.onnx").write_bytes(zoo.dense((8, 8, 1)))
    (root / "raw" / "settings.json").write_text(json.dumps({"classes": CLASSES}))
    (root / "broken").mkdir()
    (root / "broken" / "model.onnx").write_bytes(b"no model")
    answer = server.client.post("/models/reload").json()
    assert answer["loaded"] == ["dropped", "raw"]
    assert list(answer["refused"]) == ["broken"]
    assert server.client.get("/models/raw").json()["classes"] == CLASSES
    for name in answer["loaded"]:
        assert server.client.post("/classify", json={"model": name, "images": images(1)}).status_code == 200
    body = {"models": ["raw"], "dataset": own_images, "n": 8, "attacks": ["pgd"]}
    done = server.finished(server.submit({**body, "threats": [{"norm": "l2", "eps": [0.2]}]}))
    assert done["status"] == "succeeded", done
    shutil.rmtree(root / "broken")
    assert server.client.post("/models/reload").json() == {"loaded": [], "refused": {}}
    shutil.rmtree(root / "raw")
    assert server.client.delete("/models/raw").status_code == 204


TORCH = {"file": ("model.onnx", cases.read("torch_default.onnx"))}
DATA = ("torch_default.onnx.data", cases.read("torch_default.onnx.data"))


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.onnx", TORCH["file"][1])
        archive.writestr(*DATA)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "files",
    [
        [*TORCH.items(), ("weights", DATA)],
        [("file", DATA), *TORCH.items()],
        [("file", ("both.zip", zipped()))],
    ],
)
def test_weights_in_a_second_file(client: httpx.Client, files: list[Any]):
    answer = client.post("/models", files=files, data={"settings": json.dumps({"name": "second"})})
    assert answer.status_code == 201, answer.text
    x = np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)
    asked = client.post("/classify", json={"model": "second", "images": x.tolist()})
    session = ort.InferenceSession(str(cases.FOLDER / "torch_default.onnx"))
    logits = session.run(None, {"input": np.repeat(x, 2, axis=0)})[0][0]
    assert asked.json()["predictions"][0]["label"] == int(logits.argmax())
    assert client.delete("/models/second").status_code == 204


def test_weights_that_are_missing_or_too_many(client: httpx.Client):
    data = {"settings": json.dumps({"name": "second"})}
    alone = client.post("/models", files=TORCH, data=data)
    assert (alone.status_code, alone.json()["error"]["details"]["field"]) == (422, "file")
    assert "a further part of the upload" in alone.json()["error"]["message"]
    many = client.post("/models", files=[*TORCH.items(), *[("weights", DATA)] * 9], data=data)
    assert (many.status_code, many.json()["error"]["code"]) == (400, "malformed")
    assert_not_there(client, "second")


NAMED = ("config.json", json.dumps({"id2label": {str(i): name for i, name in enumerate("vwxyz")}}).encode())


def test_a_file_of_the_upload_names_the_classes(client: httpx.Client):
    files: list[Any] = [("file", ("m.onnx", zoo.dense((1, 8, 8)))), ("classes", NAMED)]
    answer = client.post("/models", files=files, data={"settings": json.dumps({"name": "named"})})
    assert answer.status_code == 201, answer.text
    manifest = answer.json()["manifest"]
    assert manifest["classes"] == list("vwxyz")
    choice = manifest["adoption"]["choices"]["classes"]
    assert (choice["given"], choice["reason"]) == (True, "declared; the file 'config.json', by its keys")
    assert client.delete("/models/named").status_code == 204


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        ([("l.txt", b"cat\ndog\n")], {}, "'l.txt' has 2 names for the 5 outputs"),
        ([("l.txt", b"[" * 5000)], {}, "'l.txt' has 0 names for the 5 outputs"),
        ([NAMED], {"classes": CLASSES}, "named twice"),
        ([NAMED, NAMED], {}, "2 parts classes, at most 1"),
    ],
)
def test_names_that_do_not_fit(client: httpx.Client, names: list[Any], settings: dict[str, Any], message: str):
    files: list[Any] = [("file", ("m.onnx", zoo.dense((1, 8, 8)))), *(("classes", one) for one in names)]
    answer = client.post("/models", files=files, data={"settings": json.dumps({"name": "named", **settings})})
    assert answer.status_code == (400 if len(names) > 1 else 422)
    error = answer.json()["error"]
    assert message in error["message"]
    assert len(names) > 1 or error["details"]["field"] == "classes"
    assert_not_there(client, "named", looked_at=len(names) == 1)


def test_a_folder_keeps_weights_beside_its_model(server: Server):
    folder = server.folder / "models" / "artifacts" / "torch"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(TORCH["file"][1])
    (folder / DATA[0]).write_bytes(DATA[1])
    (folder / "labels.txt").write_text("\n".join(f"class {i}" for i in range(10)))
    assert server.client.post("/models/reload").json() == {"loaded": ["torch"], "refused": {}}
    assert server.client.get("/models/torch").json()["classes"][9] == "class 9"
    shutil.rmtree(folder)
    assert server.client.delete("/models/torch").status_code == 204


def test_a_report_numbers_classes_as_its_models_do(mine: Any, server: Server):
    """The images name the classes in another order: their labels follow the names."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    predicted = server.client.post(
        "/classify", json={"model": "mine", "images": (pixels[:, None] / 255).tolist()}
    ).json()
    labels = np.array([CLASSES[::-1].index(found["class_name"]) for found in predicted["predictions"]])
    data = packed(images=pixels, labels=labels, classes=np.array(CLASSES[::-1]))
    assert bring(server.client, data, "/evalsets", name="reversed").status_code == 201
    body = {"models": ["mine"], "dataset": "reversed", "n": 20, "attacks": ["noise"]}
    done = server.finished(server.submit({**body, "threats": [{"norm": "l2", "eps": [0.01]}]}))
    assert done["report"]["models"][0]["clean"]["k"] == 20, done
    assert done["report"]["evalset"]["classes"] == CLASSES
    assert server.client.delete("/evalsets/reversed").status_code == 204
    other = packed(images=pixels, labels=labels, classes=np.array([*CLASSES[:-1], "x"]))
    assert bring(server.client, other, "/evalsets", name="other").status_code == 201
    refused = server.client.post("/robustness-report", json={**body, "dataset": "other"})
    assert refused.status_code == 422
    assert "other has images of 'x', and mine has 'e'" in refused.json()["error"]["message"]
    assert server.client.delete("/evalsets/other").status_code == 204


# Evaluation sets


def folders(**classes: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, pictures in classes.items():
            for i, picture in enumerate(pictures):
                archive.writestr(f"set/{name}/{i}.png", picture)
    return buffer.getvalue()


def picture(shade: int, size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (size, size), shade).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_zip_of_folders_becomes_a_set_whose_classes_take_turns(client: httpx.Client):
    data = folders(boots=[picture(1), picture(2)], bags=[picture(3), picture(4), picture(5)])
    made = bring(client, data, "/evalsets", name="folders").json()
    assert (made["n"], made["image_shape"], made["classes"]) == (5, [1, 8, 8], ["bags", "boots"])
    assert [sample["label"] for sample in made["samples"]] == [0, 1, 0, 1]
    listed = {entry["name"]: entry for entry in client.get("/evalsets?samples=1").json()["evalsets"]}
    assert listed["folders"]["uploaded"]
    assert not listed["tiny"]["uploaded"]
    assert len(listed["tiny"]["samples"]) == 1
    assert client.get("/evalsets/folders?samples=0").json()["samples"] == []
    assert client.get("/evalsets/folders?samples=99").status_code == 422
    again = bring(client, data, "/evalsets", name="folders")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "name_taken")
    assert client.delete("/evalsets/folders").status_code == 204
    assert client.get("/evalsets/folders").status_code == 404


def test_images_that_are_none_are_refused(client: httpx.Client):
    pixels = np.zeros((4, 8, 8), np.uint8)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(5):
            archive.writestr(f"a/{i}.png", bytes(2**26))
    pickled = io.BytesIO()
    np.savez(pickled, images=np.array([{"a": 1}], dtype=object), labels=np.zeros(1, int))
    for data in (
        b"",
        b"nothing",
        bomb.getvalue(),
        pickled.getvalue(),
        packed(images=pixels),
        packed(images=pixels, labels=np.zeros(3, int)),
        packed(images=pixels, labels=np.full(4, -1)),
        packed(images=pixels.astype(np.float32) + 2, labels=np.zeros(4, int)),
        packed(images=np.zeros((4, 2, 8, 8), np.uint8), labels=np.zeros(4, int)),
        packed(images=pixels[:0], labels=np.zeros(0, int)),
        folders(a=[picture(1)], b=[b"no picture"]),
        folders(a=[picture(1)], b=[picture(1, 9)]),
        folders(a=[picture(1)]),
    ):
        answer = bring(client, data, "/evalsets", name="bad")
        assert answer.status_code == 422, answer.text
        assert answer.json()["error"]["details"]["field"] in ("file", "classes")
