"""A requirement holds by the lower end of its interval, and a figure that is not there is a failure."""

import pytest

from gauntlet.errors import InvalidInput
from gauntlet.report import requirements
from gauntlet.report.schema import Report


@pytest.mark.parametrize(
    ("text", "kind", "norm", "eps", "least"),
    [
        ("certified(l2)@36/255>=0.8", "certified", "l2", 36 / 255, 0.8),
        ("robust(linf)@0.1 >= 30%", "robust", "linf", 0.1, 0.3),
        ("clean>=0.95", "clean", None, None, 0.95),
    ],
)
def test_lines_are_read(text: str, kind: str, norm: str | None, eps: float | None, least: float) -> None:
    read = requirements.parse(text)
    assert (read.kind, read.norm, read.eps, read.least) == (kind, norm, eps, least)


@pytest.mark.parametrize("text", ["", "robust", "robust@0.1>=1", "clean(l2)@1>=0.1", "robust(l2)@x>=0.1", "clean>=1.1"])
def test_other_lines_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        requirements.parse(text)


def test_the_interval_decides_and_the_point_only_where_asked(report: Report) -> None:
    rate = report.models[0].clean
    assert rate.value is not None
    between = requirements.parse(f"clean>={(rate.value + rate.low) / 2:.6f}")
    (line,) = [line for line in requirements.failures(report, [between]) if line.startswith("tiny-a")]
    assert f"{rate.k} of {rate.n}" in line
    assert not [line for line in requirements.failures(report, [between], point=True) if line.startswith("tiny-a")]


def test_robust_and_certified_are_read_from_the_report(report: Report) -> None:
    for kind in ("robust", "certified"):
        assert requirements.failures(report, [requirements.parse(f"{kind}(l2)@0.1>=0")]) == []
        assert len(requirements.failures(report, [requirements.parse(f"{kind}(l2)@0.1>=1")], point=True)) == 2
        assert "no such figure" in requirements.failures(report, [requirements.parse(f"{kind}(l2)@0.123>=0")])[0]
