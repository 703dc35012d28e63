"""Is a report request one that a worker can answer? Imports torch, through the models it looks at."""

from gauntlet.attacks import ATTACKS
from gauntlet.evalset import missing
from gauntlet.report.builder import validate
from gauntlet.report.schema import ReportRequest
from service.engine import Engine
from service.errors import Code, ServiceError


def check(engine: Engine, request: ReportRequest) -> dict[str, str]:
    """The sha256 of every model and of the evaluation set, by ``models/NAME`` and ``evalsets/NAME``.

    Raises ServiceError for a name that nothing has, InvalidInput for whatever else cannot be measured.
    """
    for i, name in enumerate(request.models):
        engine.classifier(name, f"models.{i}")
    for i, name in enumerate(request.attacks):
        if name not in ATTACKS:
            known = sorted(ATTACKS)
            message = f"no attack is called {name!r}; there are {', '.join(known)}"
            raise ServiceError(Code.UNKNOWN_ATTACK, message, field=f"attacks.{i}", known=known)
    if request.dataset not in engine.evalsets:
        message = missing(request.dataset, engine.evalsets)
        raise ServiceError(Code.UNKNOWN_DATASET, message, field="dataset", known=sorted(engine.evalsets))
    validate(request, engine.classifiers, engine.evalsets)
    return {
        **{f"models/{name}": engine.classifier(name).manifest.model_sha256 for name in request.models},
        f"evalsets/{request.dataset}": engine.evalsets[request.dataset].sha256,
    }
