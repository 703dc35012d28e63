"""What is known of one endpoint: the type of the rows of service.endpoints.routes."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from service.errors import Code
from service.request_context import Scope

Method = Literal["GET", "POST", "DELETE"]
Handler = Callable[[Request], Awaitable[Response] | Response]

JSON = "application/json"
BINARY = "application/octet-stream"
MULTIPART = "multipart/form-data"
COMMON_ERRORS = (Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED, Code.INTERNAL)


@dataclass(frozen=True)
class Endpoint:
    """One path template with one method. An answer of None is a body without a schema, of the media type given."""

    method: Method
    path: str
    scope: Scope | None  # that a key needs; None: anybody may call it
    handler: Handler
    summary: str
    answers: Mapping[int, type[BaseModel] | tuple[type[BaseModel], ...] | None]
    failure: type[BaseModel]
    errors: tuple[Code, ...] = COMMON_ERRORS
    body: type[BaseModel] | None = None
    media: str = JSON
    consumes: str = JSON  # multipart: a part `file`, and a part `settings` with the JSON of ``body``
    file_needed: bool = True  # multipart: False where the settings may name what is to be fetched in its place
    more_files: Mapping[str, int] = field(default_factory=dict)  # multipart: parts with further files, and how many
    query: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()
    answer_headers: tuple[str, ...] = ()
    binary: bool = False  # bytes may follow the JSON, both ways: then the media type is BINARY
    compressed: bool = False  # for clients that take gzip
    metered: bool = True  # counts against the requests that somebody may make in a minute

    @property
    def media_in(self) -> tuple[str, ...]:
        """What the body may be."""
        return (self.consumes, BINARY) if self.binary else (self.consumes,)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(self.path)))

    @property
    def parameters(self) -> list[str]:
        """Names in the path."""
        return re.findall(r"\{(\w+)\}", self.path)
