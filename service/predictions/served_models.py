"""The models that an API process answers with: ONNX Runtime sessions of what the catalog says is in service."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import anyio.to_thread

from gauntlet.artifacts.manifest import ClassifierManifest
from gauntlet.certify.lipschitz import Certificate
from gauntlet.certify.proof_cache import ProofCache
from gauntlet.errors import GauntletError
from gauntlet.runtime.served import DeviceKind, ServedClassifier, ServedGenerator, device_kind
from service.errors import Code, ServiceError
from service.model_catalog import AnyManifest, Catalog, check_kind, verified
from service.settings import Settings

PATIENCE = 10.0  # seconds that a request waits for its model to be opened
LOOK = 0.05  # seconds between two looks whether something has been proved
IDLE = 1.0  # ... whether something has been taken into service, where nobody asks for it

Served = ServedClassifier | ServedGenerator


class ServedModels:
    """By name. Opened when first asked for, which takes a fraction of a second: at the start it costs no memory."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self._catalog = catalog
        self._device_file, self._may_be_gpu = settings.device_file, device_kind(settings.device) == "cuda"
        self._proofs = ProofCache(settings.proofs_folder)
        self._open: dict[str, Served] = {}
        self._proved: set[str] = set()  # sha256
        self._opening = threading.Lock()

    def watch(self, on_ready: Callable[[], None]) -> NoReturn:
        """Look what can be answered, and drop what is not in service any more; to be run in a thread.

        ``on_ready`` is called once, when all that there was at the start can be.
        """
        started = False
        while True:
            self._catalog.refresh()
            shipped = self._catalog.shipped
            for name in [name for name in list(self._open) if name not in shipped]:
                self._open.pop(name, None)
            for manifest in self._unproved():
                with suppress(NotProved):
                    self._certificate(manifest)
                    self._proved.add(manifest.model_sha256)
            waiting = self.not_ready()
            if not waiting and not started:
                started = True
                on_ready()
            time.sleep(LOOK if waiting else IDLE)

    def names(self) -> list[str]:
        """Of all that are in service."""
        return list(self._catalog.shipped)

    def not_ready(self) -> list[str]:
        """Names of classifiers in service whose certificates the compute process has not proved yet."""
        return [manifest.name for manifest in self._unproved()]

    def _unproved(self) -> list[ClassifierManifest]:
        return [
            manifest
            for manifest in self._catalog.shipped.values()
            if isinstance(manifest, ClassifierManifest) and manifest.model_sha256 not in self._proved
        ]

    def _certificate(self, manifest: ClassifierManifest) -> Certificate:
        certificate = self._proofs.load(manifest.model_sha256, self._device())
        if certificate is None:
            raise NotProved(f"the certificate of {manifest.name} is being proved")
        return certificate

    def _current(self, name: str, manifest: AnyManifest) -> Served | None:
        found = self._open.get(name)
        return found if found is not None and found.manifest == manifest else None

    def get(self, name: str) -> Served:
        """One that is open. Raises ServiceError ``unknown_model`` or ``not_ready``."""
        manifest = self._catalog.shipped.get(name)
        if manifest is None:
            raise self._catalog.unknown(name, "model")
        found = self._current(name, manifest)
        if found is None:
            raise ServiceError(Code.NOT_READY, f"{name} is being opened; try again", components={"predictions": name})
        return found

    def classifier(self, name: str) -> ServedClassifier:
        """As ``get``. Raises ServiceError ``wrong_kind`` too."""
        found = self.get(name)
        check_kind(found.manifest, "classifier", "model")
        assert isinstance(found, ServedClassifier)
        return found

    def generator(self, name: str) -> ServedGenerator:
        """As ``get``. Raises ServiceError ``wrong_kind`` too."""
        found = self.get(name)
        check_kind(found.manifest, "generator", "model")
        assert isinstance(found, ServedGenerator)
        return found

    async def wait_open(self, name: str) -> None:
        """Return once this model, which is in service, is open. Raises ServiceError ``not_ready``, ``model_failed``."""
        manifest = self._catalog.shipped.get(name)
        if manifest is None or self._current(name, manifest) is not None:
            return
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                await anyio.to_thread.run_sync(self.open, name)
                return
            except NotProved as error:
                if time.monotonic() > deadline:
                    message = f"{error}; try again"
                    raise ServiceError(Code.NOT_READY, message, components={"predictions": name}) from error
            except GauntletError as error:
                raise ServiceError(Code.MODEL_FAILED, f"{name} cannot be opened: {error}") from error
            await asyncio.sleep(LOOK)

    def open(self, name: str) -> None:
        """Raises NotProved, or ArtefactError where it is not what the catalog says."""
        with self._opening:
            manifest = self._catalog.shipped.get(name)
            if manifest is None or self._current(name, manifest) is not None:
                return
            device = self._device()
            if isinstance(manifest, ClassifierManifest):
                certificate = self._certificate(manifest)
                path = verified(self._catalog.folder / name, manifest).model_path
                self._open[name] = ServedClassifier(path, manifest, certificate, device)
            else:
                path = verified(self._catalog.folder / name, manifest).model_path
                self._open[name] = ServedGenerator(path, manifest, device)

    def _device(self) -> DeviceKind:
        """The one that the compute process uses: torch may not take a GPU whose driver is there. Raises NotProved."""
        if not self._may_be_gpu:
            return "cpu"
        try:
            return "cuda" if self._device_file.read_text() == "cuda" else "cpu"
        except FileNotFoundError:
            raise NotProved("the compute process has not chosen a device yet") from None


class NotProved(GauntletError):
    """The compute process has not finished what an answer needs."""
