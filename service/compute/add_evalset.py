"""POST /evalsets: pictures that somebody sends are decoded in a confined child, and kept in the job database."""

from collections.abc import Callable
from typing import TypeVar

from gauntlet.artifacts import evaluation_sets
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.errors import InvalidInput, ModelFailed, Unconfined
from gauntlet.onnx_import.settings import ImageSetSettings
from gauntlet.sandbox.fork_server import ForkServer
from gauntlet.sandbox.sandboxed_classifier import read_pictures
from service.uploads.evalsets import EvaluationSets
from service.uploads.ownership import Ownership
from service.uploads.storage import UploadStorage, name_taken

T = TypeVar("T")


def add_evalset(
    sets: EvaluationSets,
    storage: UploadStorage,
    sandbox: ForkServer,
    data: bytes,
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
        found = read_pictures(sandbox, data, declared)
    except Unconfined:
        raise
    except ModelFailed as error:
        raise InvalidInput(f"the file is refused: {error}", "file") from error
    packed = evaluation_sets.pack(found.images, found.labels, found.classes, declared.licence)
    made = evaluation_sets.unpack(declared.name, packed)
    answer = describe(made)
    storage.add("evalset", declared.name, packed, made.sha256, limit, ownership)
    return answer
