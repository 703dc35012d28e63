"""What an export uses besides the report: requirements, changes since an earlier report, the files of the models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gauntlet.report import requirements
from gauntlet.report.compare import Comparison
from gauntlet.report.requirements import Outcome, Requirement
from gauntlet.report.schema import Report


@dataclass(frozen=True)
class Gate:
    """The requirements that a report must meet, and what else its exports show.

    ``point``: the share itself must meet the requirements, not the lower end of its interval. ``files``: the path of
    a model's file by the model's name, if it is known. ``changes``: since an earlier report.
    """

    required: Sequence[Requirement] = ()
    point: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    changes: Comparison | None = None

    def outcomes(self, report: Report) -> list[Outcome]:
        """Return the outcome of every requirement for every model of the report."""
        return requirements.outcomes(report, self.required, point=self.point)

    def missed(self, report: Report) -> list[Outcome]:
        """Return the outcomes of the requirements that are not met."""
        return [outcome for outcome in self.outcomes(report) if not outcome.met]

    def file(self, model: str) -> str:
        """Return the path of the model's file, for tools that show findings beside a file."""
        return self.files.get(model, f"{model}.onnx")
