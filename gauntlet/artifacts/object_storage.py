"""Files in object storage, s3://, gs:// and az://, through obstore, which is imported when it is first used.

Credentials, region and endpoint are those of the environment, as the clouds' own tools read them: AWS_*, GOOGLE_*,
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
    """The storage cannot be reached, or refuses."""


def is_url(text: str) -> bool:
    return text.startswith(SCHEMES)


class ObjectStorage:
    """All below one address, as s3://bucket/prefix. Every method raises StorageError."""

    def __init__(self, url: str) -> None:
        """Raises InvalidInput where obstore is missing or the address is none."""
        try:
            import obstore.store  # noqa: PLC0415 - whoever keeps files in a folder needs none of it
        except ImportError as error:
            raise InvalidInput(f"{url} needs gauntlet-robustness[store]") from error
        self.url, self._obstore = url, obstore
        try:
            self._store: ObjectStore = obstore.store.from_url(url, retry_config=RETRIES)
        except Exception as error:  # obstore's errors share no base with those that it raises for a URL
            raise InvalidInput(f"{url} is no address of object storage ({_first_line(error)})") from error

    def download(self, key: str, file: IO[bytes]) -> None:
        """Raises FileNotFoundError where there is none."""
        with self._telling():
            reader = self._obstore.open_reader(self._store, key, buffer_size=PIECE)
            while piece := reader.read(PIECE):
                file.write(piece)

    def upload(self, key: str, file: IO[bytes]) -> None:
        """From the start of the file. Nobody sees it before all of it is there."""
        file.seek(0)
        try:
            with self._telling():
                self._obstore.put(self._store, key, file)
        except FileNotFoundError as error:  # the bucket
            raise StorageError(f"{self.url}: {_first_line(error)}") from error

    def exists(self, key: str) -> bool:
        try:
            with self._telling():
                self._obstore.head(self._store, key)
        except FileNotFoundError:
            return False
        return True

    def size(self, key: str) -> int:
        """Bytes. Raises FileNotFoundError where there is none."""
        with self._telling():
            return int(self._obstore.head(self._store, key)["size"])

    def remove(self, key: str) -> None:
        """Nothing where there is none."""
        with contextlib.suppress(FileNotFoundError), self._telling():
            self._obstore.delete(self._store, key)

    def ages(self) -> dict[str, float]:
        """Of every file, by its key: seconds since it was written."""
        now = time.time()
        with self._telling():
            found = [entry for page in self._obstore.list(self._store) for entry in page]
        return {entry["path"]: now - entry["last_modified"].timestamp() for entry in found}

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # obstore's errors, and OSError of a local file
            raise StorageError(f"{self.url}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """What follows may quote the whole request."""
    return str(error).strip().partition("\n")[0][:300]
