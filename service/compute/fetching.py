"""Models that the service fetches itself: for an admin, and from below the prefixes of GAUNTLET_MODEL_SOURCES alone."""

from contextlib import ExitStack
from typing import IO

from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import model_sources
from service.auth.admission import require
from service.compute.upload_parts import Files, two_parts
from service.errors import Code, ServiceError
from service.request_context import CALL, Scope
from service.schemas.uploads import MORE_FILES, WEIGHTS


def check_source(files: Files, source: str | None, prefixes: tuple[str, ...]) -> None:
    """Raises ServiceError unless there is a file, or else an address that this call may have fetched."""
    if source is None:
        if files.file is None:
            raise two_parts("file")
        return
    require(CALL.get(), Scope.ADMIN)
    if files.file is not None or files.more.get(WEIGHTS):
        raise ServiceError(Code.INVALID, "a model comes as a file or from a source, not from both", field="source")
    if not model_sources.is_allowed(source, prefixes):
        message = "nothing is fetched from there; GAUNTLET_MODEL_SOURCES lists the prefixes of what is"
        raise ServiceError(Code.FORBIDDEN, message, field="source")


def brought(
    files: Files, source: str | None, held: ExitStack
) -> tuple[IO[bytes], dict[str, IO[bytes]] | None, str | None]:
    """The file, those beside it, and the address that they were fetched from; open and there as long as ``held`` is.

    Raises InvalidInput with the field ``source`` where it cannot be fetched.
    """
    if source is None:
        assert files.file is not None
        return files.file, files.more.get(WEIGHTS), None
    try:
        found = held.enter_context(model_sources.fetched(source))
    except InvalidInput as error:
        raise InvalidInput(str(error), "source") from error
    others = [path for path in sorted(found.file.parent.iterdir()) if path.is_file() and path != found.file]
    kept = others[: MORE_FILES[WEIGHTS]]
    beside: dict[str, IO[bytes]] = {path.name: held.enter_context(path.open("rb")) for path in kept}
    return held.enter_context(found.file.open("rb")), beside, found.address
