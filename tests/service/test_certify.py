"""POST /certify, in this process: closed forms of a linear model, shipped and uploaded, and what cannot be bounded."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from gauntlet.bounds.prover import METHODS
from gauntlet.errors import Cancelled
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.unanswered_label import NO_ANSWER
from service.compute.certify_request import certify, price
from service.compute.model_added import model_added
from service.compute.models import ComputeModels
from service.errors import Code, ServiceError
from service.schemas.certify import CertifyRequest, CertifyResponse
from service.settings import Settings
from service.uploads.ownership import OPERATORS
from tests import sandboxed, zoo
from tests.gauntlet.test_predicted_labels import blind_above
from tests.service.conftest import arrays
from tests.service.models import linear_and_uploads

GREY = [[0.5] * 8] * 8


def fine() -> None:
    """A request that nobody cancels."""


def hung_up() -> None:
    raise Cancelled("its client has hung up")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComputeModels]:
    folder = tmp_path_factory.mktemp("certify")
    with linear_and_uploads(folder) as made:
        data = (folder / "models/artifacts/linear/model.onnx").read_bytes()
        with sandboxed.held(data) as file:
            made.uploaded.add(
                file, ModelSettings(name="mine", pixel_range="0..1"), frozenset(), OPERATORS, describe=model_added
            )
        yield made


def ask(models: ComputeModels, check: Callable[[], None] = fine, **fields: object) -> CertifyResponse:
    body = {"model": "linear", "images": arrays(2), "budget_seconds": 20.0, **fields}
    return certify(models, CertifyRequest.model_validate(body), check)


@pytest.mark.parametrize("model", ["linear", "mine"])
def test_a_radius_ends_where_a_counterexample_begins(models: ComputeModels, model: str):
    for result in ask(models, model=model, radius="largest", format="array").results:
        assert result.status == "certified"
        assert result.distance is not None
        assert 0.97 * result.distance < result.radius <= result.distance
        assert result.adversarial_label not in (None, result.label)
        within = ask(models, model=model, images=arrays(2)[:1], eps=0.99 * result.radius)
        break
    assert [verdict.status for verdict in within.results] == ["certified"]
    assert within.results[0].counterexample is None


def test_a_brought_model_is_bounded_in_its_child_as_a_shipped_one_is_here(models: ComputeModels):
    x, labels = torch.tensor(arrays(2)), torch.tensor([0, 2])
    with models.classifier("linear") as here, models.classifier("mine") as there:
        asked = x, labels, torch.tensor([0.01, 0.2]), torch.tensor([0.0, 1e-3])
        found, wanted = (model.bounder.intervals(*asked) for model in (there, here))
        assert torch.allclose(found, wanted, atol=1e-9)
        given = {"norm": "l2", "eps": 0.1, "slack": 0.0, "methods": ("crown",), "seconds": 5.0}
        proofs = [model.bounder.prove(x[0], 0, **given) for model in (there, here)]
        assert torch.allclose(proofs[0].margins, proofs[1].margins, atol=1e-9)
        assert proofs[0].method == proofs[1].method


@pytest.mark.parametrize("form", ["png", "array"])
def test_a_counterexample_is_returned_as_the_model_saw_it(models: ComputeModels, form: str):
    for result in ask(models, eps=0.5, format=form).results:
        assert result.status == "falsified"
        again = ask(models, images=[result.counterexample], labels=[result.label], eps=0.0).results[0]
        assert (again.status, again.method) == ("falsified", "clean")
        assert again.adversarial_label == result.adversarial_label != result.label


def test_a_graph_without_rules_says_why_it_is_not_bounded_and_no_answer_gets_no_verdict(models: ComputeModels):
    declared = ModelSettings(name="blind", pixel_range="0..1")
    with sandboxed.held(blind_above(0.9)) as file:
        models.uploaded.add(file, declared, frozenset(), OPERATORS, describe=model_added)
    white = np.ones((1, 8, 8)).tolist()
    grey, unanswered = ask(models, model="blind", images=[GREY, white], eps=1e-6).results
    assert (grey.status, grey.bound) == ("unknown", None)
    assert "there is no rule for Sqrt" in str(grey.reason)
    assert (unanswered.status, unanswered.label) == ("unknown", None)
    assert unanswered.reason == NO_ANSWER


def test_more_seconds_than_an_attack_may_take_are_too_expensive():
    asked = CertifyRequest.model_validate({"model": "a", "images": arrays(1), "eps": 0.1, "budget_seconds": 55.0})
    with pytest.raises(ServiceError) as raised:
        price(asked, Settings())
    assert raised.value.code == Code.TOO_EXPENSIVE


def test_a_cancelled_request_ends(models: ComputeModels):
    def cancelled() -> None:
        raise ServiceError(Code.DEADLINE_EXCEEDED, "over")

    with pytest.raises(ServiceError, match="over"):
        ask(models, cancelled, eps=0.01)


def test_a_proof_in_a_child_ends_when_it_is_cancelled_and_the_child_answers_again(models: ComputeModels):
    declared = ModelSettings(name="deep", pixel_range="0..1")
    with sandboxed.held(zoo.dense((1, 8, 8))) as file:
        models.uploaded.add(file, declared, frozenset(), OPERATORS, describe=model_added)
    x = torch.tensor(arrays(1))
    with models.classifier("deep") as model:
        before = model.predict(x)
        wrong = int(before.argmin())  # cannot be proved
        with pytest.raises(Cancelled, match="hung up"):
            model.bounder.prove(x[0], wrong, "linf", 0.5, 0.0, METHODS, 60.0, hung_up)
        assert torch.equal(model.predict(x), before)


@pytest.mark.parametrize("aim", [{}, {"eps": 0.1, "radius": "largest"}])
def test_eps_and_radius_are_alternatives(aim: dict[str, object]):
    with pytest.raises(ValueError, match="not both"):
        CertifyRequest.model_validate({"model": "a", "images": arrays(1), **aim})
