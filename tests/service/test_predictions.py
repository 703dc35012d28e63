import base64
import io

import httpx
import numpy as np
import pytest
from PIL import Image

from gauntlet.artifacts import artefact_folders
from service.schemas.main_calls import ClassifyResponse, GenerateResponse
from tests.service.conftest import ROOT, Server, arrays, encoded, pngs

UPRIGHT = ("exif6.jpg", "upright.png")


def test_png_and_array_of_the_same_image_give_the_same_prediction(client: httpx.Client):
    answers = [
        client.post("/classify", json={"model": "linear", "images": images}).json()
        for images in (pngs(3), arrays(3), [image[0] for image in arrays(3)])
    ]
    assert answers[0] == answers[1] == answers[2]
    ClassifyResponse.model_validate(answers[0])


def test_prediction_is_the_models_with_a_certificate_that_holds_in_closed_form(server: Server, client: httpx.Client):
    weight = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    weight -= weight.mean(axis=1, keepdims=True)
    answer = client.post("/classify", json={"model": "linear", "images": arrays(5)}).json()
    assert (
        answer["model_sha256"] == artefact_folders.load(server.folder / "models/artifacts/linear").manifest.model_sha256
    )
    for image, prediction in zip(arrays(5), answer["predictions"], strict=True):
        logits = weight.astype(np.float64) @ np.ravel(image)
        label = int(logits.argmax())
        exact = min(
            (logits[label] - logits[j]) / np.linalg.norm(weight[label] - weight[j]) for j in {0, 1, 2} - {label}
        )
        assert prediction["label"] == label
        assert prediction["class_name"] == ("ankle boot", "bag", "coat")[label]
        assert sum(prediction["probabilities"]) == pytest.approx(1)
        assert prediction["probability"] == max(prediction["probabilities"])
        assert prediction["margin"] == pytest.approx(logits[label] - np.sort(logits)[-2], abs=1e-4)
        assert 0.99 * exact < prediction["certified_radius"] <= exact
        assert prediction["certificate"]["radius"] == prediction["certified_radius"]
        assert prediction["certificate"]["norm"] == "l2"


def test_resize_converts_what_is_refused_without(client: httpx.Client):
    colour = encoded(np.random.default_rng(0).integers(0, 255, size=(20, 30, 3), dtype=np.uint8), "JPEG")
    body = {"model": "linear", "images": [colour]}
    refused = client.post("/classify", json=body)
    assert refused.status_code == 422
    assert "8x8" in refused.json()["error"]["message"]
    assert client.post("/classify", json={**body, "resize": True}).status_code == 200


@pytest.mark.parametrize("name", ["exif6.jpg", "upright.png", "alpha.png"])
def test_a_picture_is_shown_as_it_is_classified(client: httpx.Client, name: str):
    picture = base64.b64encode((ROOT / "tests" / "cases" / name).read_bytes()).decode()
    body = {"model": "linear", "images": [picture], "resize": True}
    (shown,) = client.post("/pictures", json=body).json()["images"]
    sent_back = client.post("/classify", json={"model": "linear", "images": [shown]})
    assert sent_back.json() == client.post("/classify", json=body).json()
    (inverted,) = client.post("/pictures", json={**body, "invert": True}).json()["images"]
    light, dark = (np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))).astype(int) for png in (shown, inverted))
    assert np.array_equal(light + dark, np.full((8, 8), 255))


def test_a_picture_that_was_turned_and_one_that_stands_upright_are_classified_alike(client: httpx.Client):
    pictures = [base64.b64encode((ROOT / "tests" / "cases" / name).read_bytes()).decode() for name in UPRIGHT]
    body = {"model": "linear", "images": pictures, "resize": True}
    turned, upright = client.post("/classify", json=body).json()["predictions"]
    assert turned["label"] == upright["label"]
    assert turned["probabilities"] == pytest.approx(upright["probabilities"], abs=0.05)


def test_the_same_seed_gives_the_same_image_whatever_n_is(client: httpx.Client):
    few = client.post("/generate", json={"model": "gen", "n": 2, "seed": 7}).json()
    many = client.post("/generate", json={"model": "gen", "n": 5, "seed": 7, "format": "png"}).json()
    other = client.post("/generate", json={"model": "gen", "n": 2, "seed": 8}).json()
    assert few["images"] == many["images"][:2]
    assert few["images"] != other["images"]
    GenerateResponse.model_validate(many)
    grid = Image.open(io.BytesIO(base64.b64decode(many["grid"])))
    assert grid.size == (24, 16)  # 5 images in 3 columns


def test_a_drawn_seed_is_returned_and_repeats_the_images(client: httpx.Client):
    first = client.post("/generate", json={"model": "gen"}).json()
    assert len(first["images"]) == 16
    again = client.post("/generate", json={"model": "gen", "seed": first["seed"]}).json()
    assert again["images"] == first["images"]
    assert client.post("/generate", json={"model": "gen"}).json()["seed"] != first["seed"]


def test_latents_given_are_decoded(client: httpx.Client):
    drawn = client.post("/generate", json={"model": "gen", "n": 3, "seed": 1, "format": "array"}).json()
    given = client.post("/generate", json={"model": "gen", "latents": drawn["latents"], "format": "array"}).json()
    assert given["seed"] is None
    assert given["images"] == drawn["images"]
    assert np.shape(given["images"]) == (3, 1, 8, 8)


def test_pictures_that_were_decoded_are_those_that_were_encoded(client: httpx.Client):
    drawn = client.post("/generate", json={"model": "gen", "n": 1, "seed": 1, "format": "array"}).json()
    png = client.post("/generate", json={"model": "gen", "n": 1, "seed": 1}).json()["images"][0]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
    assert np.array_equal(shown, np.round(np.array(drawn["images"][0][0], dtype=np.float32) * 255))
