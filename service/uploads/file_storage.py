"""Where the files of uploads lie, each by its sha256: a folder, or object storage with a folder of copies beside it."""

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from gauntlet.artifacts import object_storage
from gauntlet.artifacts.manifest import sha256_of
from gauntlet.artifacts.object_storage import ObjectStorage, StorageError
from service.errors import Code, ServiceError
from service.observability.logs import LOGGER
from service.settings import Settings

DRAFT = ".draft-"  # what the name of a file begins with that is being written
FORGOTTEN = 24 * 3600.0  # seconds after which a draft, or a file that nobody refers to, was left behind by a crash


class FileStore(Protocol):
    """Every method raises ServiceError ``store_unavailable`` where the store cannot be used."""

    def draft(self) -> contextlib.AbstractContextManager[IO[bytes]]:
        """An empty file to write to, gone with the context."""
        ...

    def keep(self, draft: IO[bytes]) -> str:
        """Keep what has been written to a draft. Its sha256."""
        ...

    def open(self, sha256: str) -> IO[bytes]:
        """For reading, and held against its sha256. Raises FileNotFoundError where there is no such file, undamaged."""
        ...

    def remove(self, sha256: str) -> None:
        """Nothing where there is none."""
        ...

    def old(self) -> list[str]:
        """The sha256 of files that were written over a day ago. Drafts as old are removed."""
        ...


def file_store(settings: Settings) -> FileStore:
    """That of GAUNTLET_STORE. Raises InvalidInput for an address that is none."""
    if object_storage.is_url(settings.store):
        return Bucket(ObjectStorage(settings.store), Folder(settings.store_cache_folder), settings.store_cache)
    return Folder(Path(settings.store))


class Folder:
    """A folder of this host, or one that several hosts share."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def draft(self) -> Iterator[IO[bytes]]:
        with _telling():
            self.path.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path, prefix=DRAFT)
            os.close(handle)
        try:
            with Path(name).open("w+b") as file:
                yield file
        finally:
            Path(name).unlink(missing_ok=True)

    def keep(self, draft: IO[bytes]) -> str:
        with _telling():
            draft.flush()
            sha256 = sha256_of(Path(draft.name))
            os.fsync(draft.fileno())
            link = Path(f"{draft.name}-kept")  # the draft keeps its own name: it may have to be kept again
            link.hardlink_to(draft.name)
            link.replace(self.path / sha256)  # a damaged one too
            link.unlink(missing_ok=True)  # one file with two names is replaced by leaving both
            return sha256

    def open(self, sha256: str) -> IO[bytes]:
        with _telling():
            file = (self.path / sha256).open("rb")
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                file.close()
                LOGGER.error("%s is damaged: its sha256 is not its name", self.path / sha256)
                raise FileNotFoundError(sha256)
            file.seek(0)
            return file

    def remove(self, sha256: str) -> None:
        with _telling():
            (self.path / sha256).unlink(missing_ok=True)

    def old(self) -> list[str]:
        old = [path for path, age in self._ages().items() if age > FORGOTTEN]
        drafts = [path for path in old if path.name.startswith(DRAFT)]
        for path in drafts:
            path.unlink(missing_ok=True)
        return [path.name for path in old if path not in drafts]

    def touch(self, sha256: str) -> None:
        """It is in use: others are trimmed before it."""
        with contextlib.suppress(OSError):
            os.utime(self.path / sha256)

    def trim(self, limit: int, spared: str) -> None:
        """Remove what was used longest ago, until the rest has at most ``limit`` bytes."""
        ages = {path.name: age for path, age in self._ages().items() if not path.name.startswith(DRAFT)}
        sizes = {sha256: self._size(sha256) for sha256 in sorted(ages, key=lambda sha256: -ages[sha256])}
        total = sum(sizes.values())
        for sha256, size in sizes.items():
            if total <= limit:
                return
            if sha256 != spared:
                self.remove(sha256)
                total -= size

    def _size(self, sha256: str) -> int:
        try:
            return (self.path / sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def _ages(self) -> dict[Path, float]:
        now, found = time.time(), {}
        with _telling():
            for path in self.path.iterdir() if self.path.is_dir() else ():
                with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                    found[path] = now - path.stat().st_mtime
        return found


class Bucket:
    """Object storage, and copies in a folder of this host of what it has opened lately."""

    def __init__(self, storage: ObjectStorage, copies: Folder, limit: int) -> None:
        self._storage, self._copies, self._limit = storage, copies, limit

    def draft(self) -> contextlib.AbstractContextManager[IO[bytes]]:
        return self._copies.draft()

    def keep(self, draft: IO[bytes]) -> str:
        sha256 = self._copies.keep(draft)
        with _telling():
            if not self._storage.exists(sha256):
                self._storage.upload(sha256, draft)
        self._copies.trim(self._limit, sha256)
        return sha256

    def open(self, sha256: str) -> IO[bytes]:
        try:
            found = self._copies.open(sha256)
        except FileNotFoundError:
            self._copies.remove(sha256)  # a damaged one
            with self._copies.draft() as draft:
                with _telling():
                    self._storage.download(sha256, draft)
                if self._copies.keep(draft) != sha256:
                    LOGGER.error("%s/%s is damaged: its sha256 is not its name", self._storage.url, sha256)
                    raise FileNotFoundError(sha256) from None
            found = self._copies.open(sha256)
            self._copies.trim(self._limit, sha256)
        self._copies.touch(sha256)
        return found

    def remove(self, sha256: str) -> None:
        self._copies.remove(sha256)
        with _telling():
            self._storage.remove(sha256)

    def old(self) -> list[str]:
        self._copies.old()  # its drafts
        with _telling():
            return [sha256 for sha256, age in self._storage.ages().items() if age > FORGOTTEN]


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Only the log has the words of the system, which name buckets and folders."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, StorageError) as error:
        LOGGER.error("the store of uploads cannot be used: %s", error)
        message = "the store of uploads cannot be used; the service's log says why"
        raise ServiceError(Code.STORE_UNAVAILABLE, message) from error
