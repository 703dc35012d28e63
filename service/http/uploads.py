"""The routes for what users bring: models and evaluation sets, read, added, deleted; and folders, looked at again."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import anyio.to_thread
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gauntlet.adopt.declared import Declared, DeclaredImages
from service.errors import Code, ServiceError, invalid
from service.http.brought import CertificateInfo, EvalSetInfo, EvalSetList, ModelAdded, Sample, SamplesQuery
from service.watch import metrics

if TYPE_CHECKING:
    from gauntlet.evalset import EvalSet
    from service.api import Gauntlet

D = TypeVar("D", bound=BaseModel)
T = TypeVar("T")

WAITING = 8  # uploads that may wait while one is looked at
SLOT = functools.cache(lambda: anyio.CapacityLimiter(1))  # made in the loop that uses it


def _service(request: Request) -> "Gauntlet":
    service: Gauntlet = request.app.state.service
    return service


async def _parts(request: Request, kind: type[D]) -> tuple[bytes, D]:
    """The file and what is said of it. Raises ServiceError."""
    try:
        async with request.form(max_files=1, max_fields=1) as form:
            file, settings = form.get("file"), form.get("settings")
            if not isinstance(file, UploadFile) or not isinstance(settings, str):
                message = "send two parts: file, with a file name, and settings, a JSON object with a name"
                raise ServiceError(Code.INVALID, message, field="settings" if isinstance(file, UploadFile) else "file")
            data = await file.read()
    except HTTPException as error:
        raise ServiceError(Code.MALFORMED, f"the body is not multipart/form-data: {error.detail}") from error
    try:
        return data, kind.model_validate_json(settings, strict=True)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        if problems[0]["type"] == "json_invalid":
            message = f"settings are not JSON: {problems[0]['msg']}"
            raise ServiceError(Code.MALFORMED, message, field="settings") from error
        raise invalid(problems) from error


async def alone(work: Callable[[], T]) -> T:
    """One upload is looked at, or one model loaded, at a time."""
    slot = SLOT()
    if slot.statistics().tasks_waiting >= WAITING:
        raise ServiceError(Code.TOO_BUSY, "too many uploads wait already; try again later")
    return await anyio.to_thread.run_sync(work, limiter=slot)


async def add_model(request: Request) -> Response:
    data, declared = await _parts(request, Declared)
    engine = _service(request).engine
    guest = await alone(lambda: engine.guests.add(data, declared, engine.reserved))
    proved, steepest = guest.certificate, guest.slope
    loose = proved.lipschitz / steepest if proved.lipschitz and steepest else None
    certificate = CertificateInfo(lipschitz=proved.lipschitz, reason=proved.reason, steepest=steepest, looseness=loose)
    return _json(ModelAdded(manifest=guest.manifest, certificate=certificate), 201, f"/models/{guest.name}")


def delete_model(request: Request) -> Response:
    service, name = _service(request), request.path_params["name"]
    service.engine.manifest(name, "name")
    if name in service.engine.models:
        raise ServiceError(Code.BUILT_IN, f"{name} came with the service and cannot be deleted", field="name")
    _check_unused(service, f"models/{name}")
    service.engine.guests.remove(name)
    metrics.forget(name)
    return Response(status_code=204)


def _check_unused(service: "Gauntlet", pin: str) -> None:
    if service.jobs.in_use(pin):
        message = f"a report that has not ended needs {pin.partition('/')[2]}; wait for it or cancel it"
        raise ServiceError(Code.IN_USE, message, field="name")


def list_evalsets(request: Request) -> Response:
    sets, samples = _service(request).engine.evalsets, _samples(request)
    return _json(EvalSetList(evalsets=[_info(sets, found, samples) for found in sets.usable()]))


def get_evalset(request: Request) -> Response:
    sets = _service(request).engine.evalsets
    return _json(_info(sets, sets.get(request.path_params["name"], "name"), _samples(request)))


async def add_evalset(request: Request) -> Response:
    data, declared = await _parts(request, DeclaredImages)
    sets = _service(request).engine.evalsets
    made = await alone(lambda: sets.add(data, declared))
    return _json(_info(sets, made, SamplesQuery().samples), 201, f"/evalsets/{made.name}")


def delete_evalset(request: Request) -> Response:
    service, name = _service(request), request.path_params["name"]
    service.engine.evalsets.check(name, "name")
    if service.engine.evalsets.shipped(name):
        raise ServiceError(Code.BUILT_IN, f"{name} came with the service and cannot be deleted", field="name")
    _check_unused(service, f"evalsets/{name}")
    service.engine.evalsets.remove(name)
    return Response(status_code=204)


def _samples(request: Request) -> int:
    try:
        return SamplesQuery.model_validate(dict(request.query_params)).samples
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False)) from error


def _info(sets: Any, found: "EvalSet", samples: int) -> EvalSetInfo:
    from service.http.codec import png  # noqa: PLC0415  BentoML's parent imports this module and does without torch

    images, labels = found.head(min(samples, len(found.labels))) if samples else ((), ())
    channels, height, width = found.images.shape[1:]
    return EvalSetInfo(
        name=found.name,
        n=len(found.labels),
        image_shape=(channels, height, width),
        classes=list(found.classes),
        licence=found.licence,
        sha256=found.sha256,
        uploaded=not sets.shipped(found.name),
        samples=[Sample(label=int(label), image=png(image)) for image, label in zip(images, labels, strict=True)],
    )


def _json(model: BaseModel, status: int = 200, location: str | None = None) -> Response:
    headers = {} if location is None else {"Location": location}
    return Response(model.model_dump_json(), status_code=status, media_type="application/json", headers=headers)


async def reload_models(request: Request) -> Response:
    from service.models.folders import reload  # noqa: PLC0415  BentoML's parent imports this module and does without torch

    engine = _service(request).engine
    return _json(await alone(lambda: reload(engine)))


UPLOADS = [
    Route("/models", add_model, methods=["POST"]),
    Route("/models/reload", reload_models, methods=["POST"]),
    Route("/models/{name}", delete_model, methods=["DELETE"]),
    Route("/evalsets", list_evalsets),
    Route("/evalsets", add_evalset, methods=["POST"]),
    Route("/evalsets/{name}", get_evalset),
    Route("/evalsets/{name}", delete_evalset, methods=["DELETE"]),
]
