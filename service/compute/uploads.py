"""What users upload: models and evaluation sets, taken in and deleted; and folders, looked at again."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gauntlet.artifacts import evaluation_sets
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.errors import InvalidInput
from gauntlet.evaluation.held_out_images import calibrated
from gauntlet.onnx_import import model_sources
from gauntlet.sandbox.fork_server import ForkServer
from gauntlet.sandbox.sandboxed_classifier import SandboxedClassifier
from service.compute import repository
from service.compute.add_evalset import add_evalset
from service.compute.fetching import brought, check_source
from service.compute.folders import reload
from service.compute.model_added import model_added
from service.compute.models import ComputeModels
from service.compute.upload_parts import Files, upload_parts
from service.errors import Code, ServiceError, translate
from service.inference_protocol.message import read
from service.inference_protocol.schemas import RepositoryRequest
from service.jobs.queue import Jobs
from service.observability.logs import LOGGER
from service.responses import json_response
from service.schemas.evalset_info import evalset_info
from service.schemas.main_calls import ModelOpening
from service.schemas.uploads import (
    CLASSES,
    MORE_FILES,
    EvalSetSettings,
    ModelAdded,
    SamplesQuery,
    UploadSettings,
)
from service.uploads.evalset_previews import preview
from service.uploads.evalsets import EvaluationSets
from service.uploads.openings import name_taken
from service.uploads.ownership import of_this_call
from service.uploads.records import UploadRecords

T = TypeVar("T")

WAITING = 8  # uploads that may wait while one is looked at
WAIT, LONGEST_WAIT = 10.0, 600.0  # seconds that an answer waits for a model to be opened: by default, and at most


@dataclass(frozen=True)
class Uploads:
    """What is taken in goes one at a time: a file that is looked at, a model that is loaded."""

    models: ComputeModels
    storage: UploadRecords
    evalsets: EvaluationSets
    sandbox: ForkServer
    jobs: Jobs

    @cached_property
    def _slot(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(1)

    @cached_property
    def _tasks(self) -> set[asyncio.Task[Response]]:
        """Models that are being opened: the event loop alone would not keep them."""
        return set()

    async def one_at_a_time(self, work: Callable[[], T]) -> T:
        """Raises ServiceError ``too_busy`` where too many wait already."""
        self._check_waiting()
        return await anyio.to_thread.run_sync(work, limiter=self._slot)

    def _check_waiting(self) -> None:
        if self._slot.statistics().tasks_waiting >= WAITING:
            raise ServiceError(Code.TOO_BUSY, "too many uploads wait already; try again later")

    async def add_model(self, request: Request) -> Response:
        """201 where it is open within the time that the client waits, otherwise 202; what is refused, as an error."""
        patience = seconds_to_wait(request.headers.get("prefer", ""))
        async with contextlib.AsyncExitStack() as held:
            parts = upload_parts(request, UploadSettings, MORE_FILES, file_needed=False)
            files, declared = await held.enter_async_context(parts)
            await anyio.to_thread.run_sync(self._begin, files, declared)
            task = asyncio.create_task(self._open(files, declared, held.pop_all()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # whoever asks is told
        done, _ = await asyncio.wait([task], timeout=patience)
        return task.result() if done else self._still_opening(declared.name)

    def _begin(self, files: Files, declared: UploadSettings) -> None:
        """Whatever can be refused before the file is looked at. Raises ServiceError."""
        name, models = declared.name, self.models
        check_source(files, declared.source, models.settings.model_sources)
        if name in models.catalog.reserved or models.uploaded.taken(name):
            raise name_taken(name)
        self.storage.check_room("model", models.settings.max_uploads)
        if declared.calibration_set is not None:
            self.evalsets.check(declared.calibration_set, "calibration_set")
        self._check_waiting()
        self.models.openings.begin(name, models.settings.opener, of_this_call(shared=declared.shared))

    async def _open(self, files: Files, declared: UploadSettings, held: contextlib.AsyncExitStack) -> Response:
        """The job, which goes on whether or not somebody waits for it. ``held`` has the files."""
        async with held:
            try:
                return await self.one_at_a_time(lambda: self._add_model(files, declared))
            except Exception as error:
                known = translate(error)
                if known.code is Code.INTERNAL:
                    LOGGER.error("opening the model %s failed", declared.name, exc_info=error)
                reason = {"code": known.code, "message": str(known), "details": known.details or None}
                with contextlib.suppress(ServiceError):  # without the database nobody can be told
                    await anyio.to_thread.run_sync(self.models.openings.failed, declared.name, reason)
                raise

    def _still_opening(self, name: str) -> Response:
        return json_response(ModelOpening(name=name, state="opening"), 202, f"/models/{name}")

    def _add_model(self, files: Files, declared: UploadSettings) -> Response:
        name = declared.calibration_set
        images = None if name is None else self.evalsets.get(name, "calibration_set")

        def describe(model: SandboxedClassifier) -> ModelAdded:
            if images is not None:
                calibrate(model, images)
            if address is not None:
                model.manifest = model_sources.from_address(model.manifest, address)
            added = model_added(model)
            self.models.openings.proved(model.name, added.certificate.model_dump())
            return added

        on_stage = partial(self.models.openings.advance, declared.name)
        with contextlib.ExitStack() as held:
            if declared.source is not None:
                on_stage("fetching")
            file, weights, address = brought(files, declared.source, held)
            added = self.models.uploaded.add(
                file,
                declared.of_the_file(),
                self.models.catalog.reserved,
                of_this_call(shared=declared.shared),
                weights=weights,
                names=files.more.get(CLASSES),
                describe=describe,
                on_stage=on_stage,
            )
        self.models.openings.ready(declared.name)
        return json_response(added, 201, f"/models/{declared.name}")

    def delete_model(self, request: Request) -> Response:
        """Also one that has been unloaded: its name is taken until it is deleted."""
        name, catalog = request.path_params["name"], self.models.catalog
        if name in catalog.shipped:
            raise ServiceError(Code.BUILT_IN, f"{name} came with the service and cannot be deleted", field="name")
        uploaded = self.models.uploaded.manifests.get(name)
        if uploaded is None:
            return self._forget_failure(name)
        self.models.uploaded.check_removable(name)
        self.jobs.check_unused(f"models/{name}")
        self.models.uploaded.remove(name)
        self.models.openings.forget(name)
        if catalog.unloaded.get(name) == uploaded:
            catalog.forget_unloaded(name)
        return Response(status_code=204)

    def _forget_failure(self, name: str) -> Response:
        opening = self.models.openings.get(name)
        if opening is None or opening.state == "ready":
            raise self.models.catalog.unknown(name, "name")
        if opening.state == "opening":
            raise ServiceError(Code.IN_USE, f"{name} is being opened; try again when that has ended")
        self.models.openings.check_removable(name)
        self.models.openings.forget(name)
        return Response(status_code=204)

    async def add_evalset(self, request: Request) -> Response:
        limit = self.models.settings.max_uploads
        kept = self.evalsets, self.storage, self.sandbox
        async with upload_parts(request, EvalSetSettings) as (files, declared):
            file = files.file
            assert file is not None
            given = file, declared.of_the_file(), of_this_call(shared=declared.shared)
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


def seconds_to_wait(prefer: str) -> float:
    """That a client asks for in a header Prefer (RFC 7240): ``wait=SECONDS``, or ``respond-async`` for none."""
    if found := re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", prefer, re.IGNORECASE):
        return min(float(found[1]), LONGEST_WAIT)
    return 0.0 if "respond-async" in prefer.lower() else WAIT


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


def _evalset_added(made: EvalSet) -> Response:
    info = evalset_info(preview(made), SamplesQuery().samples, uploaded=True)
    return json_response(info, 201, f"/evalsets/{made.name}")
