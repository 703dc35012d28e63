"""API keys: made once and shown once; what is kept is the SHA-256 of each, in GAUNTLET_KEYS_FILE or GAUNTLET_API_KEYS.

A key is 32 random bytes, so nobody can guess it back from its hash, and a slow hash would only slow every request.
"""

import hashlib
import hmac
import json
import secrets
import threading
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gauntlet.artifacts.manifest import Sha256
from service.observability.logs import LOGGER
from service.replace_file import Stamp, stamp
from service.request_context import Caller, Scope
from service.settings import Settings, SettingsError

PREFIX = "gauntlet_"  # lets a scanner of repositories recognise a key that leaked
LOOK = 1.0  # seconds between two looks at the file: a key that was taken out is refused from then on
Quota = Annotated[int, Field(ge=0)]


class Key(BaseModel):
    """One line of the file, as JSON. A quota that is left out is that of the settings; 0: none."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    sha256: Sha256
    scope: Scope
    requests_per_minute: Quota | None = None
    requests_at_once: Quota | None = None
    waiting_reports: Quota | None = None
    reports_per_day: Quota | None = None
    stored_reports: Quota | None = None

    @property
    def caller(self) -> Caller:
        return Caller(**self.model_dump(exclude={"sha256"}))


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def new(name: str, scope: Scope) -> tuple[str, Key]:
    """A fresh key, and what is kept of it. Raises ValidationError for a name that cannot be."""
    secret = PREFIX + secrets.token_urlsafe(32)
    return secret, Key(name=name, sha256=digest(secret), scope=scope)


def presented(authorization: str | None, x_api_key: str | None) -> str | None:
    """The key that the two headers of a request bring, either as ``Bearer KEY`` or bare; None if they bring none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else x_api_key


def parse(text: str, source: str) -> tuple[Key, ...]:
    """One key a line; empty lines and those that begin with # are passed over. SettingsError quotes nothing."""
    keys: dict[str, Key] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            key = Key.model_validate_json(line)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, problem["loc"])) or "the line"
            message = (
                f"{source}, line {number}: {where}: {problem['msg']}; `python -m service keys new` makes such lines"
            )
            raise SettingsError(message) from None  # the cause would quote the line
        if key.name in keys:
            raise SettingsError(f"{source}, line {number}: a second key is called {key.name}")
        keys[key.name] = key
    return tuple(keys.values())


class Keyring:
    """The keys that are valid now. A file that changes is read again; while it is wrong, the keys before hold."""

    def __init__(self, fixed: tuple[Key, ...], file: Path | None) -> None:
        self._fixed, self._file = fixed, file
        self._stamp = self._stat()
        self._keys = self._read()
        self._looked = time.monotonic()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Those of the settings; None: keys are not in use. Raises SettingsError."""
        if settings.keys_file is None and not settings.api_keys:
            return None
        return cls(parse(settings.api_keys, "GAUNTLET_API_KEYS"), settings.keys_file)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, secret: str) -> Key | None:
        """The key with this secret. Takes as long whichever it is."""
        self._refresh()
        asked = digest(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, asked):
                found = key
        return found

    def _refresh(self) -> None:
        if self._file is None or time.monotonic() - self._looked < LOOK:
            return
        with self._lock:
            self._looked = time.monotonic()
            found = self._stat()
            if found == self._stamp:
                return
            self._stamp = found
            try:
                self._keys = self._read()
            except SettingsError as error:
                LOGGER.error("the keys before stay valid: %s", error)

    def _stat(self) -> Stamp | None:
        try:
            return None if self._file is None else stamp(self._file)
        except OSError:
            return None

    def _read(self) -> tuple[Key, ...]:
        if self._file is None:
            return self._fixed
        source = f"GAUNTLET_KEYS_FILE={self._file}"
        try:
            text = self._file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SettingsError(f"{source}: cannot be read ({reason})") from None
        keys = (*self._fixed, *parse(text, source))
        if len({key.name for key in keys}) < len(keys):
            raise SettingsError(f"{source}: a key has a name that another in GAUNTLET_API_KEYS has")
        return keys


def line(key: Key) -> str:
    """What is kept of a key, as the line for the file."""
    return json.dumps(key.model_dump(mode="json", exclude_none=True))


def check_open(settings: Settings, host: str | None) -> None:
    """Raises SettingsError where anybody could reach a service that asks for no key. ``host`` None: not known."""
    keys = Keyring.of(settings)
    if keys is not None and not keys:
        raise SettingsError(
            "GAUNTLET_KEYS_FILE and GAUNTLET_API_KEYS hold no key; `python -m service keys new` makes one"
        )
    if keys is None and not settings.open and not (host and ip_address(host).is_loopback):
        raise SettingsError(
            f"{host or 'the address to listen on'} can be reached from elsewhere and no key would be asked for; give "
            "GAUNTLET_KEYS_FILE or GAUNTLET_API_KEYS (`python -m service keys new` makes a key), or set GAUNTLET_OPEN=1"
        )
