"""POST /pictures: images as a classifier sees them."""

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from gauntlet.artifacts.manifest import ClassifierManifest
from service.endpoints.services import ApiServices, services
from service.model_catalog import check_kind
from service.responses import json_response
from service.schemas.image_codec import decode, png
from service.schemas.main_calls import PicturesRequest, PicturesResponse
from service.schemas.reading import read_json


async def pictures_endpoint(request: Request) -> Response:
    return await pictures(services(request), read_json(PicturesRequest, await request.body()))


async def pictures(api: ApiServices, request: PicturesRequest) -> Response:
    """Of whatever model: its manifest says what it takes."""
    api.catalog.refresh()
    manifest = await anyio.to_thread.run_sync(api.catalog.manifest, request.model)
    check_kind(manifest, "classifier", "model")
    assert isinstance(manifest, ClassifierManifest)
    return json_response(await api.generations.run(lambda: _shown(manifest, request, api.settings.max_images)))


def _shown(manifest: ClassifierManifest, request: PicturesRequest, limit: int) -> PicturesResponse:
    x = decode(request.images, manifest.input_shape, resize=request.resize, limit=limit)
    return PicturesResponse(images=[png(1 - image if request.invert else image) for image in x])
