"""Numbers beyond float32, in which models compute: refused where they come in, by the name of their field."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from gauntlet.attacks import ATTACKS
from gauntlet.errors import InvalidInput
from gauntlet.evaluation import referee
from gauntlet.onnx_import.preprocessing import input_preprocessing
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.threat import Threat
from service.endpoints.routes import ENDPOINTS
from service.errors import ServiceError
from service.predictions.generation import generate

BEYOND = [1e39, -1e39, 3.5e38, float("inf"), float("-inf"), float("nan")]


def numbers(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of a number that is not whole, with where it stands."""
    if isinstance(schema, dict):
        if schema.get("type") == "number":
            yield path, schema
        for name, part in schema.items():
            yield from numbers(part, f"{path}.{name}")
    elif isinstance(schema, list):
        for i, part in enumerate(schema):
            yield from numbers(part, f"{path}.{i}")


def unbounded(schema: dict[str, Any]) -> list[str]:
    low, high = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
    return [path for path, number in numbers(schema) if not (low & number.keys() and high & number.keys())]


@pytest.mark.parametrize("name", ATTACKS)
def test_every_number_that_an_attack_takes_has_bounds(name: str):
    assert unbounded(ATTACKS[name].params.model_json_schema()) == []


@pytest.mark.parametrize(
    "route",
    [route for route in ENDPOINTS if route.body or route.query],
    ids=lambda route: f"{route.method} {route.path}",
)
def test_every_number_that_a_request_may_hold_has_bounds(route):
    for model in (route.body, route.query):
        assert model is None or unbounded(model.model_json_schema()) == []


@pytest.mark.parametrize("value", BEYOND)
def test_a_parameter_of_an_attack_is_named(value: float):
    with pytest.raises(InvalidInput) as refused:
        referee.check("cw", Threat("l2"), {"kappa": value}, targeted=False)
    assert refused.value.field == "params.kappa"


@pytest.mark.parametrize("value", [*BEYOND, 1e30])
def test_so_is_eps(value: float):
    with pytest.raises(InvalidInput, match="eps must be a number from 0 to 1e"):
        Threat("linf", value)


def test_so_is_a_deviation_that_makes_pixels_infinite():
    image_input = SimpleNamespace(image=(1, 8, 8))
    assert input_preprocessing(image_input, "0..255", None, (1e-30,)).scale == (pytest.approx(255e30),)
    with pytest.raises(InvalidInput, match="beyond float32") as refused:
        input_preprocessing(image_input, "0..255", None, (1e-38,))
    assert refused.value.field == "std"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_latent_whose_image_is_not_finite_is_named(value: float):
    made = np.zeros((3, 1, 2, 2), np.float32)
    made[1, 0, 1, 0] = value
    model = SimpleNamespace(name="m", generate=lambda _: made)
    with pytest.raises(ServiceError, match=r"latents\.1: the model's image of it is not finite") as refused:
        generate(model, np.zeros((3, 4), np.float32), "/generate")
    assert refused.value.details["field"] == "latents.1"
    made[1] = 1
    assert generate(model, np.zeros((3, 4), np.float32), "/generate") is made


@pytest.mark.parametrize("field", ["mean", "std"])
@pytest.mark.parametrize("value", BEYOND)
def test_so_is_the_normalisation_of_an_uploaded_model(field: str, value: float):
    with pytest.raises(ValidationError, match=rf"{field}\.0"):
        ModelSettings.model_validate({"name": "x", field: (value,)})
