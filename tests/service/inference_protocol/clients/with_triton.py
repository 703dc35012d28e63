import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.service.inference_protocol.clients.cases import URL, WAYS, case, sent_as


@pytest.fixture(scope="module")
def client():
    with triton.InferenceServerClient(URL.removeprefix("http://"), concurrency=8) as made:
        yield made


def tensor(array, name="images", datatype="FP32", *, binary=True):
    made = triton.InferInput(name, array.shape, datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return [made]


def test_the_server_and_its_models(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear")
    assert not client.is_model_ready("nope")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("linear")
    (version,) = metadata["versions"]
    assert client.get_model_metadata("linear", version) == metadata
    assert client.is_model_ready("linear", version)
    assert {"linear", "conv", "gen"} <= {model["name"] for model in client.get_model_repository_index()}


@pytest.mark.parametrize(("datatype", "binary"), WAYS)
def test_every_datatype(client, datatype, binary):
    images, logits = sent_as(datatype)
    output = triton.InferRequestedOutput("logits", binary_data=binary)
    answer = client.infer("linear", tensor(images, datatype=datatype, binary=binary), outputs=[output], request_id="7")
    assert answer.get_response()["id"] == "7"
    assert ("data" in answer.get_output("logits")) is not binary
    assert np.allclose(answer.as_numpy("logits"), logits, atol=1e-6)


def test_all_outputs(client):
    answer = client.infer("linear", tensor(case("grey")))
    assert answer.as_numpy("label").tolist() == case("grey_logits").argmax(axis=1).tolist()
    assert np.allclose(answer.as_numpy("probabilities").sum(axis=1), 1)
    assert (answer.as_numpy("certified_radius") > 0).all()


@pytest.mark.parametrize("request_compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_compression", [None, "gzip", "deflate"])
def test_compression(client, request_compression, response_compression):
    answer = client.infer(
        "linear",
        tensor(case("grey")),
        request_compression_algorithm=request_compression,
        response_compression_algorithm=response_compression,
    )
    assert np.allclose(answer.as_numpy("logits"), case("grey_logits"), atol=1e-6)


def test_a_generator_and_a_version(client):
    (version,) = client.get_model_metadata("gen")["versions"]
    answer = client.infer("gen", tensor(case("latents"), "latents"), model_version=version)
    assert np.allclose(answer.as_numpy("images"), case("drawn"), atol=1e-6)
    with pytest.raises(InferenceServerException, match="and no other"):
        client.infer("gen", tensor(case("latents"), "latents"), model_version="1")


def test_many_at_once(client):
    grey, logits = case("grey"), case("grey_logits")
    pending = [client.async_infer("linear", tensor(np.roll(grey, i, axis=0))) for i in range(40)]
    for i, asked in enumerate(pending):
        made = asked.get_result(timeout=600).as_numpy("logits")
        assert np.allclose(made, np.roll(logits, i, axis=0), atol=1e-6)


def test_errors_arrive_in_words(client):
    with pytest.raises(InferenceServerException, match=r"pixels must lie in \[0, 1\]") as caught:
        client.infer("linear", tensor(case("grey") + 1))
    assert caught.value.status() == "422"
    with pytest.raises(InferenceServerException, match="not offered"):
        client.infer("linear", tensor(case("grey")), outputs=[triton.InferRequestedOutput("logits", class_count=1)])
    with pytest.raises(InferenceServerException, match="'nope' is none of the models"):
        client.infer("nope", tensor(case("grey")))


def test_unload_and_load(client):
    client.unload_model("conv")
    assert not client.is_model_ready("conv")
    client.load_model("conv")
    assert client.is_model_ready("conv")
