"""What users upload: models and evaluation sets, taken in and deleted; and folders, looked at again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import anyio
import anyio.to_thread
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gauntlet.artifacts import evaluation_sets
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.errors import InvalidInput
from gauntlet.evaluation.held_out_images import calibrated
from gauntlet.sandbox.fork_server import ForkServer
from gauntlet.sandbox.sandboxed_classifier import SandboxedClassifier
from service.compute import repository
from service.compute.add_evalset import add_evalset
from service.compute.folders import reload
from service.compute.models import ComputeModels
from service.errors import Code, ServiceError, invalid
from service.inference_protocol.message import read
from service.inference_protocol.schemas import RepositoryRequest
from service.jobs.queue import Jobs
from service.responses import json_response
from service.schemas.evalset_info import evalset_info
from service.schemas.uploads import (
    CLASSES,
    MORE_FILES,
    WEIGHTS,
    CertificateInfo,
    EvalSetSettings,
    ModelAdded,
    SamplesQuery,
    UploadSettings,
)
from service.uploads.evalset_previews import preview
from service.uploads.evalsets import EvaluationSets
from service.uploads.ownership import of_this_call
from service.uploads.storage import UploadStorage

D = TypeVar("D", bound=BaseModel)
T = TypeVar("T")

NO_MORE: Mapping[str, int] = {}  # files
WAITING = 8  # uploads that may wait while one is looked at


@dataclass(frozen=True)
class Uploads:
    """What is taken in goes one at a time: a file that is looked at, a model that is loaded."""

    models: ComputeModels
    storage: UploadStorage
    evalsets: EvaluationSets
    sandbox: ForkServer
    jobs: Jobs

    @cached_property
    def _slot(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(1)

    async def one_at_a_time(self, work: Callable[[], T]) -> T:
        """Raises ServiceError ``too_busy`` where too many wait already."""
        if self._slot.statistics().tasks_waiting >= WAITING:
            raise ServiceError(Code.TOO_BUSY, "too many uploads wait already; try again later")
        return await anyio.to_thread.run_sync(work, limiter=self._slot)

    async def add_model(self, request: Request) -> Response:
        files, declared = await _parts(request, UploadSettings, MORE_FILES)
        return await self.one_at_a_time(lambda: self._add_model(files, declared))

    def _add_model(self, files: "Files", declared: UploadSettings) -> Response:
        name = declared.calibration_set
        images = None if name is None else self.evalsets.get(name, "calibration_set")

        def describe(model: SandboxedClassifier) -> Response:
            if images is not None:
                calibrate(model, images)
            return model_added(model)

        uploaded, reserved, more = self.models.uploaded, self.models.catalog.reserved, files.more
        return uploaded.add(
            files.data,
            declared.of_the_file(),
            reserved,
            of_this_call(shared=declared.shared),
            weights=more.get(WEIGHTS),
            names=more.get(CLASSES),
            describe=describe,
        )

    def delete_model(self, request: Request) -> Response:
        """Also one that has been unloaded: its name is taken until it is deleted."""
        name, catalog = request.path_params["name"], self.models.catalog
        if name in catalog.shipped:
            raise ServiceError(Code.BUILT_IN, f"{name} came with the service and cannot be deleted", field="name")
        uploaded = self.models.uploaded.manifests.get(name)
        if uploaded is None:
            raise catalog.unknown(name, "name")
        self.models.uploaded.check_removable(name)
        self.jobs.check_unused(f"models/{name}")
        self.models.uploaded.remove(name)
        if catalog.unloaded.get(name) == uploaded:
            catalog.forget_unloaded(name)
        return Response(status_code=204)

    async def add_evalset(self, request: Request) -> Response:
        files, declared = await _parts(request, EvalSetSettings)
        limit, kept = self.models.settings.max_uploads, (self.evalsets, self.storage, self.sandbox)
        given = files.data, declared.of_the_file(), of_this_call(shared=declared.shared)
        return await self.one_at_a_time(lambda: add_evalset(*kept, *given, limit=limit, describe=_evalset_added))

    async def reload_models(self, _: Request) -> Response:
        return json_response(await self.one_at_a_time(lambda: reload(self.models)))

    async def load(self, request: Request) -> Response:
        await _read_repository(request)
        await self.one_at_a_time(lambda: repository.load(self.models, request.path_params["name"]))
        return JSONResponse({})

    async def unload(self, request: Request) -> Response:
        await _read_repository(request)
        await self.one_at_a_time(lambda: repository.unload(self.models, request.path_params["name"]))
        return JSONResponse({})


def upload_routes(uploads: Uploads) -> list[Route]:
    stored = "/v2/repository/models/{name}"
    return [
        Route("/models", uploads.add_model, methods=["POST"]),
        Route("/models/reload", uploads.reload_models, methods=["POST"]),
        Route("/models/{name}", uploads.delete_model, methods=["DELETE"]),
        Route("/evalsets", uploads.add_evalset, methods=["POST"]),
        Route(f"{stored}/load", uploads.load, methods=["POST"]),
        Route(f"{stored}/unload", uploads.unload, methods=["POST"]),
    ]


async def _read_repository(request: Request) -> RepositoryRequest:
    """A body that may be empty."""
    return read(RepositoryRequest, await request.body() or b"{}")


def calibrate(model: SandboxedClassifier, images: EvalSet) -> None:
    """Fit the temperature on a part of an evaluation set. Raises InvalidInput where they do not fit together."""
    if model.manifest.input_shape != images.images.shape[1:]:
        message = f"{model.name} takes {model.manifest.input_shape}, {images.name} holds {images.images.shape[1:]}"
        raise InvalidInput(message, "calibration_set")
    try:
        labelled = evaluation_sets.matched(images, model.manifest.classes, model.name)
    except InvalidInput as error:
        raise InvalidInput(str(error), "calibration_set") from error
    model.manifest = calibrated(model.manifest, model.predict, labelled)


def model_added(model: SandboxedClassifier) -> Response:
    proved, steepest = model.certificate, model.slope
    loose = proved.lipschitz / steepest if proved.lipschitz and steepest else None
    certificate = CertificateInfo(lipschitz=proved.lipschitz, reason=proved.reason, steepest=steepest, looseness=loose)
    return json_response(ModelAdded(manifest=model.manifest, certificate=certificate), 201, f"/models/{model.name}")


def _evalset_added(made: EvalSet) -> Response:
    info = evalset_info(preview(made), SamplesQuery().samples, uploaded=True)
    return json_response(info, 201, f"/evalsets/{made.name}")


@dataclass(frozen=True)
class Files:
    """What an upload brought: a file, and by the name of a part the others in such parts, by their own names."""

    data: bytes
    more: dict[str, dict[str, bytes]]


async def _parts(request: Request, kind: type[D], more: Mapping[str, int] = NO_MORE) -> tuple[Files, D]:
    """The file, ``more`` files in other parts, and what is declared of it. Raises ServiceError."""
    try:
        async with request.form(max_files=1 + sum(more.values()), max_fields=1) as form:
            named, settings = isinstance(form.get("file"), UploadFile), form.get("settings")
            if not named or not isinstance(settings, str):
                message = "send two parts: file, with a file name, and settings, a JSON object with a name"
                raise ServiceError(Code.INVALID, message, field="settings" if named else "file")
            parts = {name: [part for part in form.getlist(name) if isinstance(part, UploadFile)] for name in more}
            for name, most in more.items():
                if len(parts[name]) > most:
                    raise ServiceError(Code.MALFORMED, f"{len(parts[name])} parts {name}, at most {most} are read")
            files = await _files([part for part in form.getlist("file") if isinstance(part, UploadFile)], parts)
    except HTTPException as error:
        raise ServiceError(Code.MALFORMED, f"the body is not multipart/form-data: {error.detail}") from error
    try:
        return files, kind.model_validate_json(settings.removeprefix("\ufeff"), strict=True)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        if problems[0]["type"] == "json_invalid":
            message = f"settings are not JSON: {problems[0]['msg']}"
            raise ServiceError(Code.MALFORMED, message, field="settings") from error
        raise invalid(problems) from error


async def _files(sent: list[UploadFile], parts: Mapping[str, list[UploadFile]]) -> Files:
    """Of several that are ``sent`` as `file`, the first that is called *.onnx is it, and the others hold weights."""
    file = next((part for part in sent if (part.filename or "").endswith(".onnx")), sent[0])
    more = {name: {part.filename or "": await part.read() for part in given} for name, given in parts.items()}
    others = {part.filename or "": await part.read() for part in sent if part is not file}
    if others:
        more[WEIGHTS] = others | more.get(WEIGHTS, {})
    return Files(await file.read(), more)
