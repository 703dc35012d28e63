"""The models of the compute process, with gradients: torch twins of what is served, opened when first needed."""

import contextlib
import threading
from collections.abc import Iterator

from gauntlet.artifacts.manifest import ClassifierManifest
from gauntlet.certify.proof_cache import ProofCache
from gauntlet.errors import ArtefactError
from gauntlet.runtime.classifier import Classifier, Generator, OnnxClassifier, choose_device, open_model
from gauntlet.sandbox.fork_server import ForkServer
from service.errors import Code, ServiceError
from service.model_catalog import AnyManifest, Catalog, check_kind, verified
from service.replace_file import replace_text
from service.settings import Settings
from service.uploads.models import UploadedModels
from service.uploads.records import UploadRecords


class ComputeModels:
    """Every model by name: those under GAUNTLET_MODELS, and uploads, which run in confined children."""

    def __init__(self, settings: Settings, storage: UploadRecords, sandbox: ForkServer) -> None:
        self.settings = settings
        self.uploaded = UploadedModels(settings.max_uploads, storage, sandbox)
        self.openings = storage.openings
        self.catalog = Catalog(settings, self.uploaded.manifests)
        self.device = choose_device(settings.device)
        replace_text(settings.device_file, self.device.type)
        self.proofs = ProofCache(settings.proofs_folder)
        self._open: dict[str, Classifier | Generator] = {}
        self._opening = threading.Lock()

    @contextlib.contextmanager
    def classifier(self, name: str, field: str = "model") -> Iterator[Classifier]:
        """For as long as the context lasts.

        Raises ServiceError ``unknown_model`` with the names there are, ``wrong_kind`` or ``model_failed``.
        """
        check_kind(self.catalog.manifest(name, field), "classifier", field)
        if name in self.catalog.shipped:
            model = self._shipped(name)
            assert isinstance(model, OnnxClassifier)  # its manifest says so
            yield model
            return
        with self.uploaded.lease(name) as uploaded:
            if uploaded is None:  # deleted since
                raise self.catalog.unknown(name, field)
            yield uploaded

    def manifest(self, name: str, field: str) -> ClassifierManifest:
        """Of a classifier, without opening it. Raises ServiceError ``unknown_model`` or ``wrong_kind``."""
        manifest = self.catalog.manifest(name, field)
        check_kind(manifest, "classifier", field)
        assert isinstance(manifest, ClassifierManifest)
        return manifest

    def _shipped(self, name: str) -> Classifier | Generator:
        with self._opening:  # one at a time: each takes all cores
            manifest = self.catalog.shipped.get(name)
            if manifest is None:
                raise self.catalog.unknown(name, "model")
            found = self._open.get(name)
            if found is None or found.manifest != manifest:
                try:
                    found = self.open(manifest)
                except ArtefactError as error:
                    raise ServiceError(Code.MODEL_FAILED, f"{name} cannot be opened: {error}") from error
                self._open[name] = found
            return found

    def open(self, manifest: AnyManifest) -> Classifier | Generator:
        """The model of this manifest, and what was proved of it on disk. Raises ArtefactError."""
        artefact = verified(self.catalog.folder / manifest.name, manifest)
        model = open_model(artefact, self.settings.device, self.proofs)
        if isinstance(model, OnnxClassifier):
            _ = model.twin  # of the bytes that have just been verified
            self._check_saved(model)
        return model

    def _check_saved(self, model: OnnxClassifier) -> None:
        """API processes know of a certificate by its record alone. Raises ArtefactError where it cannot be saved."""
        sha256, device = model.manifest.model_sha256, self.device.type
        if self.proofs.load(sha256, device) is not None:
            return
        try:
            self.proofs.save(sha256, device, model.certificate)
        except OSError as error:
            message = f"the certificate of {model.name} cannot be saved in {self.proofs.folder} ({error.strerror})"
            raise ArtefactError(message) from error

    def forget(self, name: str) -> None:
        """Close what is open of a model under GAUNTLET_MODELS."""
        with self._opening:
            self._open.pop(name, None)

    def prove_all(self) -> None:
        """Prove what has not been proved yet, so that it can be answered with. Raises ArtefactError or DeviceError."""
        for manifest in list(self.catalog.shipped.values()):
            known = self.proofs.load(manifest.model_sha256, self.device.type)
            if isinstance(manifest, ClassifierManifest) and known is None:
                self.open(manifest)
