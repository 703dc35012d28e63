"""Is a report request one that a worker can answer? Imports torch, through the models it looks at."""

from gauntlet.attacks import ATTACKS
from gauntlet.report.builder import validate
from gauntlet.report.schema import ReportRequest
from service.errors import Code, ServiceError
from service.models.engine import Engine


def check(engine: Engine, request: ReportRequest) -> dict[str, str]:
    """The sha256 of every model and of the evaluation set, by ``models/NAME`` and ``evalsets/NAME``.

    Raises ServiceError for a name that nothing has, InvalidInput for whatever else cannot be measured.
    """
    models = {name: engine.classifier(name, f"models.{i}") for i, name in enumerate(request.models)}
    for i, name in enumerate(request.attacks):
        if name not in ATTACKS:
            known = sorted(ATTACKS)
            message = f"no attack is called {name!r}; there are {', '.join(known)}"
            raise ServiceError(Code.UNKNOWN_ATTACK, message, field=f"attacks.{i}", known=known)
    evalset = engine.evalsets.get(request.dataset)
    validate(request, models, {request.dataset: evalset})
    return {
        **{f"models/{name}": model.manifest.model_sha256 for name, model in models.items()},
        f"evalsets/{request.dataset}": evalset.sha256,
    }
