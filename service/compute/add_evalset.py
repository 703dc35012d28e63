"""POST /evalsets: pictures that somebody sends are decoded in a confined child, and kept in the store of uploads."""

from collections.abc import Callable
from typing import IO, TypeVar

from gauntlet.artifacts import evaluation_sets
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.errors import InvalidInput, ModelFailed, Unconfined
from gauntlet.onnx_import.settings import ImageSetSettings
from gauntlet.sandbox.fork_server import ForkServer
from gauntlet.sandbox.sandboxed_classifier import read_pictures
from service.uploads.evalsets import EvaluationSets
from service.uploads.openings import name_taken
from service.uploads.ownership import Ownership
from service.uploads.records import UploadRecords

T = TypeVar("T")


def add_evalset(
    sets: EvaluationSets,
    storage: UploadRecords,
    sandbox: ForkServer,
    file: IO[bytes],
    declared: ImageSetSettings,
    ownership: Ownership,
    *,
    limit: int,
    describe: Callable[[EvalSet], T],
) -> T:
    """What ``describe`` makes of them is the answer, and made before anything is kept.

    Raises InvalidInput with the reason, Unconfined, ServiceError ``name_taken``, or ``uploads_full`` beyond ``limit``.
    """
    if sets.taken(declared.name):
        raise name_taken(declared.name)
    try:
        found = read_pictures(sandbox, file, declared)
    except Unconfined:
        raise
    except ModelFailed as error:
        raise InvalidInput(f"the file is refused: {error}", "file") from error
    packed = evaluation_sets.pack(found.images, found.labels, found.classes, declared.licence)
    made = evaluation_sets.unpack(declared.name, packed)
    answer = describe(made)
    with storage.files.draft() as draft:
        draft.write(packed)
        storage.add("evalset", declared.name, made.sha256, draft, made.sha256, limit, ownership)
    return answer
