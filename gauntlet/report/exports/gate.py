"""What an export knows beside the report: what it was held against, and the files of the models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gauntlet.report import requirements
from gauntlet.report.compare import Comparison
from gauntlet.report.requirements import Outcome, Requirement
from gauntlet.report.schema import Report


@dataclass(frozen=True)
class Gate:
    """``point``: hold the share itself against the requirements, not the lower end of its interval.

    ``files``: the path of a model's file by the model's name, where it is known. ``changes``: since an earlier report.
    """

    required: Sequence[Requirement] = ()
    point: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    changes: Comparison | None = None

    def outcomes(self, report: Report) -> list[Outcome]:
        """Every requirement held against every model of the report."""
        return requirements.outcomes(report, self.required, point=self.point)

    def missed(self, report: Report) -> list[Outcome]:
        """Those that do not hold."""
        return [outcome for outcome in self.outcomes(report) if not outcome.met]

    def file(self, model: str) -> str:
        """Where the model's file is, for tools that show findings beside a file."""
        return self.files.get(model, f"{model}.onnx")
