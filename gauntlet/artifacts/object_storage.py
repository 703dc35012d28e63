"""Files in object storage, s3://, gs:// and az://, through obstore, which is imported when it is first used.

Credentials, region and endpoint are read from the environment variables of the clouds' own tools: AWS_*, GOOGLE_*,
AZURE_*.
"""

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import IO, TYPE_CHECKING

from gauntlet.errors import GauntletError, InvalidInput

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

SCHEMES = ("s3://", "gs://", "az://")
PIECE = 2**23  # bytes that are downloaded in one request
RETRIES: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}


class StorageError(GauntletError):
    """The storage cannot be reached, or refuses the request."""


def is_url(text: str) -> bool:
    return text.startswith(SCHEMES)


class ObjectStorage:
    """The files below one address, as s3://bucket/prefix. Every method raises StorageError."""

    def __init__(self, url: str) -> None:
        """Raises InvalidInput if obstore is not installed or the address is invalid."""
        try:
            import obstore.store  # noqa: PLC0415 - an extra, not needed with files in a folder
        except ImportError as error:
            raise InvalidInput(f"{url} needs gauntlet-robustness[store]") from error
        self.url, self._obstore = url, obstore
        try:
            self._store: ObjectStore = obstore.store.from_url(url, retry_config=RETRIES)
        except Exception as error:  # obstore's errors share no base with those that it raises for a URL
            raise InvalidInput(f"{url} is no address of object storage ({_first_line(error)})") from error

    def download(self, key: str, file: IO[bytes]) -> None:
        """Write the content of a file to ``file``. Raises FileNotFoundError if it does not exist."""
        with self._storage_errors():
            reader = self._obstore.open_reader(self._store, key, buffer_size=PIECE)
            while piece := reader.read(PIECE):
                file.write(piece)

    def upload(self, key: str, file: IO[bytes]) -> None:
        """Store ``file``, from its start. The upload is atomic: readers see all of it or nothing."""
        file.seek(0)
        try:
            with self._storage_errors():
                self._obstore.put(self._store, key, file)
        except FileNotFoundError as error:  # the bucket does not exist
            raise StorageError(f"{self.url}: {_first_line(error)}") from error

    def exists(self, key: str) -> bool:
        try:
            with self._storage_errors():
                self._obstore.head(self._store, key)
        except FileNotFoundError:
            return False
        return True

    def size(self, key: str) -> int:
        """Return the size of a file in bytes. Raises FileNotFoundError if it does not exist."""
        with self._storage_errors():
            return int(self._obstore.head(self._store, key)["size"])

    def remove(self, key: str) -> None:
        """Delete a file, if it exists."""
        with contextlib.suppress(FileNotFoundError), self._storage_errors():
            self._obstore.delete(self._store, key)

    def ages(self) -> dict[str, float]:
        """Return, for every file by its key, the seconds since it was written."""
        now = time.time()
        with self._storage_errors():
            found = [entry for page in self._obstore.list(self._store) for entry in page]
        return {entry["path"]: now - entry["last_modified"].timestamp() for entry in found}

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        """Raise StorageError for every error but FileNotFoundError."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # obstore's errors, and OSError of a local file
            raise StorageError(f"{self.url}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message: the others may quote the whole request."""
    return str(error).strip().partition("\n")[0][:300]
