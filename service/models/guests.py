"""Models that users brought: kept in the job database, run in children of the process that asks."""

import copy
import threading
from collections import OrderedDict, defaultdict
from weakref import WeakSet

from gauntlet.adopt.declared import Declared
from gauntlet.errors import InvalidInput, ModelFailed
from gauntlet.manifest import ClassifierManifest
from gauntlet.sandbox.guest import Guest, adopt, open_guest
from gauntlet.sandbox.nursery import Nursery
from service.errors import Code, ServiceError
from service.models.shelf import Shelf, taken

OPEN = 4  # children that are kept when nobody needs them


class Guests:
    """By name. Opened when first asked for, and again after a child has died.

    Who asks for one gets a Guest of their own, and the child is theirs to question until they let go of it.
    """

    def __init__(self, limit: int, shelf: Shelf, nursery: Nursery) -> None:
        self._limit, self._shelf, self._nursery = limit, shelf, nursery
        self._open: OrderedDict[tuple[str, str], Guest] = OrderedDict()
        self._lent: defaultdict[tuple[str, str], WeakSet[Guest]] = defaultdict(WeakSet)
        self._lock = threading.Lock()
        self._opening = threading.Lock()

    def manifests(self) -> dict[str, ClassifierManifest]:
        records = self._shelf.records("model")
        return {name: ClassifierManifest.model_validate_json(record) for name, record in records.items()}

    def manifest(self, name: str) -> ClassifierManifest | None:
        record = self._shelf.record("model", name)
        return None if record is None else ClassifierManifest.model_validate_json(record)

    def get(self, name: str) -> Guest | None:
        """None: nobody brought a model of this name. Raises ModelFailed where it cannot be opened."""
        manifest = self.manifest(name)
        if manifest is None:
            return None
        with self._opening:  # one at a time: each takes all cores
            known = self._known(manifest)
            if known is not None:
                return known
            graph = self._shelf.blob(manifest.model_sha256)
            if graph is None:
                raise ModelFailed(f"{name}: its graph is missing from the job database or damaged; upload it again")
            try:
                guest = open_guest(self._nursery, graph, manifest)
            except ModelFailed as error:
                raise ModelFailed(f"{name}: {error}") from error
            return self._keep(guest)

    def add(self, data: bytes, declared: Declared, reserved: frozenset[str]) -> Guest:
        """Take a file in. Raises InvalidInput with the reason, ServiceError ``name_taken`` or ``uploads_full``."""
        if declared.name in reserved or self.manifest(declared.name) is not None:
            raise taken(declared.name)
        try:
            graph, manifest = adopt(self._nursery, data, declared)
            guest = open_guest(self._nursery, graph, manifest, new=True)
        except ModelFailed as error:
            raise InvalidInput(f"the file is refused: {error}", "file") from error
        try:
            self._shelf.add("model", declared.name, graph, guest.manifest.model_dump_json(), self._limit)
        except ServiceError:
            guest.close()
            raise
        return self._keep(guest)

    def rest(self, name: str) -> None:
        """Close what is open of it. Raises ServiceError ``in_use`` while it answers somebody here."""
        with self._lock:
            mine = [key for key in self._open if key[0] == name]
            if any(self._lent[key] for key in mine):
                raise ServiceError(Code.IN_USE, f"{name} is answering a request; try again later")
            for key in mine:
                self._close(key)

    def remove(self, name: str) -> None:
        """Raises ServiceError ``in_use`` while it answers somebody here."""
        self.rest(name)
        self._shelf.remove("model", name)

    def _known(self, manifest: ClassifierManifest) -> Guest | None:
        with self._lock:
            key = manifest.name, manifest.model_sha256
            guest = self._open.get(key)
            if guest is None or not guest.alive or guest.manifest != manifest:
                self._open.pop(key, None)
                return None
            self._open.move_to_end(key)
            return self._lend(key)

    def _keep(self, guest: Guest) -> Guest:
        with self._lock:
            key = guest.name, guest.manifest.model_sha256
            self._open[key] = guest
            lent = self._lend(key)
            idle = [key for key in self._open if not self._lent[key]]
            for key in idle[: max(0, len(self._open) - OPEN)]:
                self._close(key)
            return lent

    def _lend(self, key: tuple[str, str]) -> Guest:
        lent = copy.copy(self._open[key])
        self._lent[key].add(lent)
        return lent

    def _close(self, key: tuple[str, str]) -> None:
        self._lent.pop(key, None)
        self._open.pop(key).close()
