"""POST /robustness-report: is it one that a worker can answer? Then it is put into the queue."""

from gauntlet.artifacts.manifest import Unopened
from gauntlet.attacks import ATTACKS
from gauntlet.report.plan import validate
from gauntlet.report.schema import ReportRequest
from service.auth.quota import Owner, Requester
from service.compute.models import ComputeModels
from service.errors import Code, ServiceError
from service.jobs.job import Job
from service.jobs.queue import Jobs
from service.uploads.evalsets import EvaluationSets


class ReportRequests:
    """Checked against the models, the attacks and the evaluation sets that there are."""

    def __init__(self, models: ComputeModels, evalsets: EvaluationSets, jobs: Jobs) -> None:
        self._models, self._evalsets, self._jobs = models, evalsets, jobs

    def submit(
        self, request: ReportRequest, idempotency_key: str | None, owner: Owner | None, requester: Requester
    ) -> tuple[Job, bool]:
        """The job, and whether it is new. Raises ServiceError or InvalidInput."""
        pins, limit = self.check(request), self._models.settings.report_queue
        return self._jobs.submit(request.model_dump(mode="json"), pins, idempotency_key, limit, owner, requester)

    def check(self, request: ReportRequest) -> dict[str, str]:
        """The sha256 of every model and of the evaluation set, by ``models/NAME`` and ``evalsets/NAME``.

        Raises ServiceError for a name that nothing has, InvalidInput for whatever else cannot be measured.
        """
        names = enumerate(request.models)
        models = {name: Unopened(self._models.manifest(name, f"models.{i}")) for i, name in names}
        for i, name in enumerate(request.attacks):
            if name not in ATTACKS:
                known = sorted(ATTACKS)
                message = f"no attack is called {name!r}; there are {', '.join(known)}"
                raise ServiceError(Code.UNKNOWN_ATTACK, message, field=f"attacks.{i}", known=known)
        evalset = self._evalsets.get(request.dataset)
        validate(request, models, {request.dataset: evalset})
        return {
            **{f"models/{name}": model.manifest.model_sha256 for name, model in models.items()},
            f"evalsets/{request.dataset}": evalset.sha256,
        }
