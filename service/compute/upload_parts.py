"""The parts of an upload: files, on disk as they come, and what is declared of them."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import IO, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from service.errors import Code, ServiceError, invalid
from service.schemas.uploads import WEIGHTS

D = TypeVar("D", bound=BaseModel)

NO_MORE: Mapping[str, int] = {}  # files


@dataclass(frozen=True)
class Files:
    """What an upload brought, as files on disk: one, and by the name of a part the others in such parts, by theirs."""

    file: IO[bytes] | None  # None: it is to be fetched
    more: dict[str, dict[str, IO[bytes]]]


@contextlib.asynccontextmanager
async def upload_parts(
    request: Request, kind: type[D], more: Mapping[str, int] = NO_MORE, *, file_needed: bool = True
) -> AsyncIterator[tuple[Files, D]]:
    """The file, ``more`` files in other parts, and what is declared of it. Raises ServiceError.

    The files come to the disk as they are sent, and go with the context.
    """
    async with contextlib.AsyncExitStack() as opened:
        try:
            form = await opened.enter_async_context(request.form(max_files=1 + sum(more.values()), max_fields=1))
            named, settings = isinstance(form.get("file"), UploadFile), form.get("settings")
            if not isinstance(settings, str) or (file_needed and not named):
                raise two_parts("settings" if named else "file")
            parts = {name: [part for part in form.getlist(name) if isinstance(part, UploadFile)] for name in more}
            for name, most in more.items():
                if len(parts[name]) > most:
                    raise ServiceError(Code.MALFORMED, f"{len(parts[name])} parts {name}, at most {most} are read")
            files = _files([part for part in form.getlist("file") if isinstance(part, UploadFile)], parts)
        except HTTPException as error:
            raise ServiceError(Code.MALFORMED, f"the body is not multipart/form-data: {error.detail}") from error
        yield files, _settings(kind, settings)


def two_parts(missing: str) -> ServiceError:
    """For a body that lacks one of them."""
    message = "send two parts: file, with a file name, and settings, a JSON object with a name"
    return ServiceError(Code.INVALID, message, field=missing)


def _settings(kind: type[D], settings: str) -> D:
    try:
        return kind.model_validate_json(settings.removeprefix("\ufeff"), strict=True)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        if problems[0]["type"] == "json_invalid":
            message = f"settings are not JSON: {problems[0]['msg']}"
            raise ServiceError(Code.MALFORMED, message, field="settings") from error
        raise invalid(problems) from error


def _files(sent: list[UploadFile], parts: Mapping[str, list[UploadFile]]) -> Files:
    """Of several that are ``sent`` as `file`, the first that is called *.onnx is it, and the others hold weights."""
    file = next((part for part in sent if (part.filename or "").endswith(".onnx")), sent[0] if sent else None)
    more = {name: {part.filename or "": _on_disk(part) for part in given} for name, given in parts.items()}
    others = {part.filename or "": _on_disk(part) for part in sent if part is not file}
    if others:
        more[WEIGHTS] = others | more.get(WEIGHTS, {})
    return Files(None if file is None else _on_disk(file), more)


def _on_disk(part: UploadFile) -> IO[bytes]:
    """A small one was kept in memory."""
    part.file.fileno()
    part.file.flush()
    return part.file
