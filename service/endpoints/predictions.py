"""POST /classify."""

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from service.auth.admission import require
from service.endpoints.services import ApiServices, services
from service.model_catalog import check_kind
from service.request_context import CALL, Scope
from service.responses import json_response
from service.scheduling.batching import SMALL
from service.schemas.main_calls import ClassifyRequest
from service.schemas.reading import read_json

SMOOTHED = "/classify smoothed"
"""Its label in metrics: thousands of passes, which must not count among what is meant to be quick."""


async def classify_endpoint(request: Request) -> Response:
    return await classify(services(request), read_json(ClassifyRequest, await request.body()))


async def classify(api: ApiServices, request: ClassifyRequest) -> Response:
    """Of a model that came with the service: here. Smoothing and uploaded models: in the compute process."""
    api.catalog.refresh()
    name = request.model
    if request.smoothing is not None:
        require(CALL.get(), Scope.ATTACK)  # it costs as much as an attack
        CALL.get().notes.metrics_label = SMOOTHED
        return await api.compute.forward()
    if name not in api.catalog.shipped:
        await check_uploaded(api, name, "classifier")
        return await api.compute.forward()
    await api.models.wait_open(name)
    if len(request.images) <= SMALL and not request.resize:
        return json_response(await api.batcher.run(name, request))
    return json_response(await api.predictions.run(lambda: api.classify.answer(request)))


async def check_uploaded(api: ApiServices, name: str, kind: str | None) -> None:
    """Raises ServiceError ``unknown_model`` or ``wrong_kind`` unless somebody uploaded a model of this name."""
    manifest = await anyio.to_thread.run_sync(api.catalog.manifest, name)
    if kind is not None:
        check_kind(manifest, kind, "model")
