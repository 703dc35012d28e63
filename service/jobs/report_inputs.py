"""What a worker computes reports from: their models and evaluation sets, opened when first needed. Imports torch."""

import contextlib
from collections.abc import Iterator, Mapping

from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.artifacts.manifest import MANIFEST_FILE
from gauntlet.certify.proof_cache import ProofCache
from gauntlet.errors import ArtefactError
from gauntlet.report.build import aligned
from gauntlet.report.schema import ReportRequest
from gauntlet.runtime import memory
from gauntlet.runtime.classifier import Classifier, OnnxClassifier, open_model, use_threads
from gauntlet.sandbox.fork_server import ForkServer, Limits
from service.settings import Settings
from service.uploads.evalsets import EvaluationSets
from service.uploads.models import UploadedModels
from service.uploads.records import UploadRecords


class ReportInputs:
    """Keeps what it has opened: the next report needs the same."""

    def __init__(self, settings: Settings) -> None:
        use_threads(settings.threads)
        memory.keep()
        self._settings = settings
        self._open: dict[str, Classifier] = {}
        storage = UploadRecords.of(settings)
        sandbox = ForkServer(Limits(settings.upload_memory, settings.threads, settings.sandbox_required))
        self._uploaded = UploadedModels(settings.max_uploads, storage, sandbox)
        self._evalsets = EvaluationSets(settings.evalsets, storage)
        self._evalset: EvalSet | None = None
        self._proofs = ProofCache(settings.proofs_folder)

    @contextlib.contextmanager
    def open(self, request: ReportRequest, pins: Mapping[str, str]) -> Iterator[tuple[dict[str, Classifier], EvalSet]]:
        """The models that the report is about, for as long as the context lasts, and the images, labelled as the
        models number their classes.

        Raises ArtefactError if one was replaced since the report was asked for.
        """
        with contextlib.ExitStack() as leases:
            models = {name: self._model(name, pins[f"models/{name}"], leases) for name in request.models}
            yield models, aligned(request, models, self._images(request, pins))

    def _model(self, name: str, sha256: str, leases: contextlib.ExitStack) -> Classifier:
        found = self._open.get(name)
        if found is None or found.manifest.model_sha256 != sha256:
            found = self._load(name, leases)
        if found.manifest.model_sha256 != sha256:
            raise ArtefactError(f"the model {name} was replaced after the report was asked for; ask for it again")
        return found

    def is_shipped(self, name: str) -> bool:
        """Whether it is a model under GAUNTLET_MODELS, and not an upload."""
        return (self._settings.artifacts / name / MANIFEST_FILE).is_file()

    def _load(self, name: str, leases: contextlib.ExitStack) -> Classifier:
        if not self.is_shipped(name):
            uploaded = leases.enter_context(self._uploaded.lease(name))
            if uploaded is not None:
                return uploaded  # not kept here: its process may die, and is then started again
        model = open_model(artefact_folders.load(self._settings.artifacts / name), self._settings.device, self._proofs)
        assert isinstance(model, OnnxClassifier)  # the same file was one when the report was asked for
        self._open[name] = model
        return model

    def _images(self, request: ReportRequest, pins: Mapping[str, str]) -> EvalSet:
        name, sha256 = request.dataset, pins[f"evalsets/{request.dataset}"]
        if self._evalset is None or (self._evalset.name, self._evalset.sha256) != (name, sha256):
            self._evalset = self._read(name, sha256)
        return self._evalset

    def _read(self, name: str, sha256: str) -> EvalSet:
        found = self._evalsets.get(name)
        if found.sha256 != sha256:
            raise ArtefactError(f"{name} was replaced after the report was asked for; ask for it again")
        return found
