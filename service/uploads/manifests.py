"""The manifests of the models that users uploaded, read from the job database; free of torch."""

from gauntlet.artifacts.manifest import ClassifierManifest
from service.uploads.openings import Opening
from service.uploads.records import UploadRecords


class UploadedManifests:
    """Those that the call under way may see. Raises ServiceError ``jobs_unavailable`` while they cannot be read."""

    def __init__(self, storage: UploadRecords) -> None:
        self._storage = storage

    def all(self) -> dict[str, ClassifierManifest]:
        """By name, oldest first."""
        records = self._storage.records("model")
        return {name: ClassifierManifest.model_validate_json(record) for name, record in records.items()}

    def hidden(self) -> frozenset[str]:
        """The names that are taken by models which the call under way may not see."""
        return self._storage.hidden("model")

    def opening(self, name: str) -> Opening | None:
        """Of a model that cannot be used: it is being opened, or was refused lately."""
        found = self._storage.openings.get(name)
        return None if found is None or found.state == "ready" else found

    def get(self, name: str) -> ClassifierManifest | None:
        record = self._storage.record("model", name)
        return None if record is None else ClassifierManifest.model_validate_json(record)
