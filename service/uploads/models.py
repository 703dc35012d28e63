"""Models that users brought: kept in the store of uploads, run in children of the process that asks."""

import contextlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TypeVar

from gauntlet.artifacts.manifest import ClassifierManifest
from gauntlet.errors import InvalidInput, ModelFailed, Unconfined
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.sandbox.fork_server import ForkServer
from gauntlet.sandbox.sandboxed_classifier import SandboxedClassifier, adopt, open_sandboxed
from service.errors import Code, ServiceError
from service.uploads.manifests import UploadedManifests
from service.uploads.openings import Stage, name_taken
from service.uploads.ownership import Ownership
from service.uploads.records import UploadRecords

Key = tuple[str, str]  # name, sha256
T = TypeVar("T")

MISSING = "its file is missing from the store of uploads, or damaged; upload it again"
OPEN = 4  # children that are kept when nobody needs them


class UploadedModels:
    """By name. Opened when first asked for, and again after a child has died. A lease counts until it is over."""

    def __init__(self, limit: int, storage: UploadRecords, fork_server: ForkServer) -> None:
        self._limit, self._storage, self._fork_server = limit, storage, fork_server
        self.manifests = UploadedManifests(storage)
        self._open: OrderedDict[Key, SandboxedClassifier] = OrderedDict()
        self._leases: Counter[Key] = Counter()
        self._lock = threading.Lock()
        self._opening = threading.Lock()

    @contextlib.contextmanager
    def lease(self, name: str) -> Iterator[SandboxedClassifier | None]:
        """The model for as long as the context lasts: it is not closed meanwhile, nor can it be removed here.

        None: nobody brought a model of this name. Raises ModelFailed where it cannot be opened.
        """
        manifest = self.manifests.get(name)
        if manifest is None:
            yield None
            return
        key = name, manifest.model_sha256
        with self._lock:
            self._leases[key] += 1
        try:
            yield self._opened(manifest)
        finally:
            self._release(key)

    def _opened(self, manifest: ClassifierManifest) -> SandboxedClassifier:
        with self._opening:  # one at a time: each takes all cores
            known = self._known(manifest)
            if known is not None:
                return known
            name = manifest.name
            try:
                with self._storage.files.open(manifest.model_sha256) as graph:
                    opened = open_sandboxed(self._fork_server, graph, manifest)
            except FileNotFoundError as error:
                raise ModelFailed(f"{name}: {MISSING}") from error
            except ModelFailed as error:
                raise ModelFailed(f"{name}: {error}") from error
            return self._keep(opened)

    def add(
        self,
        file: IO[bytes],
        declared: ModelSettings,
        reserved: frozenset[str],
        ownership: Ownership,
        *,
        weights: Mapping[str, IO[bytes]] | None = None,
        names: Mapping[str, IO[bytes]] | None = None,
        describe: Callable[[SandboxedClassifier], T],
        on_stage: Callable[[Stage], None] = lambda _: None,
    ) -> T:
        """Take a file in, and the files by name in which it keeps weights, and in which its classes are named.

        They are files of this system, and never whole in the memory of this process. What ``describe`` makes of the
        model is the answer, and made before anything is kept: whatever fails, nothing is.

        Raises InvalidInput with the reason, Unconfined, ServiceError ``name_taken`` or ``uploads_full``.
        """
        if declared.name in reserved or self.taken(declared.name):
            raise name_taken(declared.name)
        with self._storage.files.draft() as graph:
            try:
                on_stage("converting")
                manifest = adopt(self._fork_server, file, declared, weights, names, graph=graph)
                on_stage("verifying")
                with Path(graph.name).open("rb") as readable:  # whoever runs it cannot write to it
                    opened = open_sandboxed(self._fork_server, readable, manifest, new=True)
            except Unconfined:
                raise
            except ModelFailed as error:
                raise InvalidInput(f"the file is refused: {error}", "file") from error
            try:
                answer = describe(opened)
                sha256, record = opened.manifest.model_sha256, opened.manifest.model_dump_json()
                self._storage.add("model", declared.name, sha256, graph, record, self._limit, ownership)
            except BaseException:
                opened.close()
                raise
        self._keep(opened)
        return answer

    def taken(self, name: str) -> bool:
        """By a model that the call under way may not see, too."""
        return self._storage.taken("model", name)

    def check_removable(self, name: str) -> None:
        """Raises ServiceError ``forbidden`` for one that the call under way may not delete."""
        self._storage.check_removable("model", name)

    def close_idle(self, name: str) -> None:
        """Close what is open of it. Raises ServiceError ``in_use`` while it answers somebody here."""
        with self._lock:
            if any(key[0] == name for key in self._leases):
                raise ServiceError(Code.IN_USE, f"{name} is answering a request; try again later")
            for key in [key for key in self._open if key[0] == name]:
                self._open.pop(key).close()

    def remove(self, name: str) -> None:
        """Raises ServiceError ``in_use`` while it answers somebody here."""
        self.close_idle(name)
        self._storage.remove("model", name)

    def _known(self, manifest: ClassifierManifest) -> SandboxedClassifier | None:
        with self._lock:
            key = manifest.name, manifest.model_sha256
            opened = self._open.get(key)
            if opened is None or not opened.alive or opened.manifest != manifest:
                self._open.pop(key, None)
                return None
            self._open.move_to_end(key)
            return opened

    def _keep(self, opened: SandboxedClassifier) -> SandboxedClassifier:
        with self._lock:
            key = opened.name, opened.manifest.model_sha256
            self._open[key] = opened
            self._trim(spared=key)
        return opened

    def _release(self, key: Key) -> None:
        with self._lock:
            self._leases[key] -= 1
            if not self._leases[key]:
                del self._leases[key]
            self._trim()

    def _trim(self, spared: Key | None = None) -> None:
        """Close the longest idle of those that are too many."""
        idle = [key for key in self._open if key not in self._leases and key != spared]
        for key in idle[: max(0, len(self._open) - OPEN)]:
            self._open.pop(key).close()
