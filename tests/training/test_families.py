"""A configuration that could not be trained, or not be described on its card, is refused before it is trained."""

import pytest
from pydantic import ValidationError

from gauntlet.artifacts.manifest import ClassifierManifest
from training.families import FAMILIES, NETWORKS, OBJECTIVES, hyperparameters
from training.recipes import RECIPES

PENALTY = RECIPES["fashion-mnist-penalty"].config


def changed(**fields: object) -> None:
    type(PENALTY).model_validate(PENALTY.model_dump() | fields)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"network": "resnet"}, "network is none of paper-cnn"),
        ({"objective": "hinge"}, "objective is none of margin"),
        ({"family": "robust"}, "family is none of standard"),
        ({"eps": 0.0}, "eps is needed by paper-cnn and the objective penalty"),
        ({"filters": ()}, "filters is needed"),
        ({"sigma": 0.5}, "sigma is not used by paper-cnn and the objective penalty"),
        ({"radius": 0.5}, "radius is not used"),
        ({"network": "lipschitz-cnn"}, "blocks is needed by lipschitz-cnn"),
    ],
)
def test_what_cannot_be_trained_is_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        changed(**fields)


def test_every_hyperparameter_is_a_field() -> None:
    functions = [*(network.build for network in NETWORKS.values()), *(spec.loss for spec in OBJECTIVES.values())]
    assert {name for function in functions for name in hyperparameters(function)} <= type(PENALTY).model_fields.keys()


def test_a_manifest_can_name_every_family() -> None:
    known = ClassifierManifest.model_json_schema()["properties"]["family"]["enum"]
    assert FAMILIES.keys() <= set(known)


def test_notes_name_the_hyperparameters() -> None:
    assert f"{PENALTY.penalty} times the mean squared ratio" in PENALTY.notes()
