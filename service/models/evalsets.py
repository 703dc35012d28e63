"""Evaluation sets: those that travel with the service, and those that users brought, kept in the job database."""

import threading
from collections import OrderedDict
from collections.abc import Mapping

from gauntlet import evalset
from gauntlet.adopt.declared import DeclaredImages
from gauntlet.errors import ArtefactError, InvalidInput, ModelFailed
from gauntlet.evalset import EvalSet
from gauntlet.sandbox.guest import read_pictures
from gauntlet.sandbox.nursery import Nursery
from service.errors import Code, ServiceError
from service.models.shelf import Shelf, taken
from service.watch.logs import LOGGER

KEPT = 4  # of those brought, in memory


class EvalSets:
    """By name."""

    def __init__(self, shipped: Mapping[str, EvalSet], limit: int, shelf: Shelf, nursery: Nursery) -> None:
        self._shipped, self._limit, self._shelf, self._nursery = shipped, limit, shelf, nursery
        self._kept: OrderedDict[str, EvalSet] = OrderedDict()  # by sha256
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        return [*self._shipped, *self._shelf.records("evalset")]

    def shipped(self, name: str) -> bool:
        return name in self._shipped

    def usable(self) -> list[EvalSet]:
        """All but the damaged ones, which the log names."""
        found = []
        for name in self.names:
            try:
                found.append(self.get(name))
            except ArtefactError as error:
                LOGGER.error("evaluation set left out: %s", error)
            except ServiceError as error:
                if error.code is not Code.UNKNOWN_DATASET:  # deleted meanwhile
                    raise
        return found

    def check(self, name: str, field: str) -> None:
        """Raises ServiceError ``unknown_dataset``."""
        if name not in self.names:
            raise self._unknown(name, field)

    def _unknown(self, name: str, field: str) -> ServiceError:
        known = sorted(self.names)
        return ServiceError(Code.UNKNOWN_DATASET, evalset.missing(name, known), field=field, known=known)

    def get(self, name: str, field: str = "dataset") -> EvalSet:
        """Raises ServiceError ``unknown_dataset``; ArtefactError where what was brought is damaged."""
        if name in self._shipped:
            return self._shipped[name]
        sha256 = self._shelf.record("evalset", name)
        if sha256 is None:
            raise self._unknown(name, field)
        with self._lock:
            if sha256 not in self._kept:
                data = self._shelf.blob(sha256)
                if data is None:
                    raise ArtefactError(f"{name} is missing from the job database or damaged; upload it again")
                self._kept[sha256] = evalset.unpack(name, data)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(sha256)
            return self._kept[sha256]

    def add(self, data: bytes, declared: DeclaredImages) -> EvalSet:
        """Take images in. Raises InvalidInput with the reason, ServiceError ``name_taken`` or ``uploads_full``."""
        if declared.name in self.names:
            raise taken(declared.name)
        try:
            found = read_pictures(self._nursery, data, declared)
        except ModelFailed as error:
            raise InvalidInput(f"the file is refused: {error}", "file") from error
        packed = evalset.pack(found.images, found.labels, found.classes, declared.licence)
        made = evalset.unpack(declared.name, packed)
        self._shelf.add("evalset", declared.name, packed, made.sha256, self._limit)
        return made

    def remove(self, name: str) -> None:
        self._shelf.remove("evalset", name)
