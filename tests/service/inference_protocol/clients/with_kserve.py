import asyncio

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from tests.service.inference_protocol.clients.cases import URL, WAYS, case, sent_as


def run(work):
    """What ``work`` makes of a client."""

    async def session():
        async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
            return await work(client)

    return asyncio.run(session())


def request(model, array, name="images", datatype="FP32", *, binary=True, output="logits"):
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    wanted = [RequestedOutput(output, {"binary_data": binary})]
    return InferRequest(model, [tensor], request_id="7", request_outputs=wanted)


def logits(answer):
    return answer.get_output_by_name("logits").as_numpy()


def test_health():
    async def work(client):
        return (
            await client.is_server_live(URL),
            await client.is_server_ready(URL),
            await client.is_model_ready(URL, "linear"),
            await client.is_model_ready(URL, "nope"),
        )

    assert run(work) == (True, True, True, False)


@pytest.mark.parametrize(("datatype", "binary"), WAYS)
def test_every_datatype(datatype, binary):
    images, expected = sent_as(datatype)
    asked = request("linear", images, datatype=datatype, binary=binary)
    answer = run(lambda client: client.infer(URL, asked, model_name="linear"))
    assert answer.id == "7"
    assert np.allclose(logits(answer), expected, atol=1e-6)


def test_a_generator():
    asked = request("gen", case("latents"), "latents", output="images")
    answer = run(lambda client: client.infer(URL, asked, model_name="gen"))
    assert np.allclose(answer.get_output_by_name("images").as_numpy(), case("drawn"), atol=1e-6)


def test_many_at_once():
    async def work(client):
        asked = [request("linear", np.roll(case("grey"), i, axis=0)) for i in range(40)]
        return await asyncio.gather(*(client.infer(URL, one, model_name="linear") for one in asked))

    for i, answer in enumerate(run(work)):
        assert np.allclose(logits(answer), np.roll(case("grey_logits"), i, axis=0), atol=1e-6)


def test_errors_arrive_in_words():
    with pytest.raises(httpx.HTTPStatusError, match=r"pixels must lie in \[0, 1\].*'422"):
        run(lambda client: client.infer(URL, request("linear", case("grey") + 1), model_name="linear"))
