"""POST /generate."""

import math

from starlette.requests import Request
from starlette.responses import Response

from gauntlet.artifacts import image_conversion
from gauntlet.runtime.served import ServedGenerator
from service.endpoints.predictions import check_uploaded
from service.endpoints.services import ApiServices, services
from service.errors import Code, ServiceError
from service.predictions.generation import DEFAULT_N, Generated, from_latents, from_seed
from service.responses import json_response
from service.schemas.image_codec import encode, png
from service.schemas.main_calls import GenerateRequest, GenerateResponse
from service.schemas.reading import read_json


async def generate_endpoint(request: Request) -> Response:
    return await generate(services(request), read_json(GenerateRequest, await request.body()))


async def generate(api: ApiServices, request: GenerateRequest) -> Response:
    api.catalog.refresh()
    if request.model not in api.catalog.shipped:
        await check_uploaded(api, request.model, "generator")
    await api.models.wait_open(request.model)
    model = api.models.generator(request.model)
    limit = api.settings.max_images
    return json_response(
        await api.generations.run(lambda: _response(model, request, _generated(model, request, limit)))
    )


def _generated(model: ServedGenerator, request: GenerateRequest, limit: int) -> Generated:
    n = request.n or (DEFAULT_N if request.latents is None else len(request.latents))
    if n > limit:
        field = "n" if request.latents is None else "latents"
        raise ServiceError(Code.INVALID, f"at most {limit} images a request, not {n}", field=field)
    return from_seed(model, n, request.seed) if request.latents is None else from_latents(model, request.latents)


def _response(model: ServedGenerator, request: GenerateRequest, made: Generated) -> GenerateResponse:
    return GenerateResponse(
        model=model.name,
        model_sha256=model.manifest.model_sha256,
        seed=made.seed,
        images=[encode(image, request.format) for image in made.images],
        latents=made.latents.tolist(),
        grid=png(image_conversion.grid(made.images, math.ceil(math.sqrt(len(made.images))))),
    )
