"""Evaluation sets: those that lie under GAUNTLET_MODELS and GAUNTLET_DATA, and those in the store of uploads."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from gauntlet.artifacts import evaluation_sets
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.errors import ArtefactError
from service.errors import Code, ServiceError
from service.replace_file import stamp
from service.uploads.records import UploadRecords

KEPT = 4  # in memory


class EvaluationSets:
    """By name. Read when first asked for, and again when the file has changed."""

    def __init__(self, roots: Sequence[Path], storage: UploadRecords) -> None:
        self._roots, self._storage = roots, storage
        self._kept: OrderedDict[tuple[str, Hashable], EvalSet] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def _shipped(self) -> Mapping[str, Path]:
        return evaluation_sets.find(self._roots)

    @property
    def names(self) -> list[str]:
        """Of those that the call under way may see."""
        return [*self._shipped, *self._storage.records("evalset")]

    def taken(self, name: str) -> bool:
        """Whether some set has this name, one that the call under way may not see included."""
        return name in self._shipped or self._storage.taken("evalset", name)

    def is_shipped(self, name: str) -> bool:
        return name in self._shipped

    def check(self, name: str, field: str) -> None:
        """Raises ServiceError ``unknown_dataset``."""
        if name not in self.names:
            raise self._unknown(name, field)

    def _unknown(self, name: str, field: str) -> ServiceError:
        known = sorted(self.names)
        return ServiceError(Code.UNKNOWN_DATASET, evaluation_sets.missing(name, known), field=field, known=known)

    def get(self, name: str, field: str = "dataset") -> EvalSet:
        """Raises ServiceError ``unknown_dataset``; ArtefactError where the file or the upload is damaged."""
        version = self.version(name, field)
        with self._lock:
            if (name, version) not in self._kept:
                self._kept[name, version] = self.read(name, version)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end((name, version))
            return self._kept[name, version]

    def version(self, name: str, field: str) -> Hashable:
        """Another where the set is another. Raises ServiceError ``unknown_dataset``."""
        path = self._shipped.get(name)
        if path is not None:
            return _stamp(path)
        sha256 = self._storage.record("evalset", name)
        if sha256 is None:
            raise self._unknown(name, field)
        return sha256

    def read(self, name: str, version: Hashable) -> EvalSet:
        """The set of this version, which is not kept. Raises ArtefactError."""
        path = self._shipped.get(name)
        if path is not None:
            return evaluation_sets.load(path)
        try:
            with self._storage.files.open(str(version)) as file:
                return evaluation_sets.unpack(name, file.read())
        except FileNotFoundError as error:
            raise ArtefactError(f"{name} is missing from the store of uploads, or damaged; upload it again") from error

    def check_removable(self, name: str) -> None:
        """Raises ServiceError ``forbidden`` for an upload that the call under way may not delete."""
        self._storage.check_removable("evalset", name)

    def remove(self, name: str) -> None:
        """Forget an upload."""
        self._storage.remove("evalset", name)


def _stamp(path: Path) -> Hashable:
    try:
        return stamp(path)
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read ({error.strerror})") from error
