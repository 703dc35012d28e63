"""The report as one self-contained HTML page: no script, no outside resource, every name escaped."""

import base64
import shlex

import jinja2

from gauntlet.norms import Norm
from gauntlet.report import plots, wording
from gauntlet.report.records import Rate
from gauntlet.report.reliability_plot import reliability_charts
from gauntlet.report.schema import ModelReport, Report, Robustness, TransferMatrix, TransferRate

SHARP = 64  # pixels: the width up to which a picture is enlarged pixel by pixel


def render(report: Report) -> str:
    """Return the HTML of the page. The same report gives the same bytes."""
    return (
        _environment()
        .get_template("template.html.j2")
        .render(
            report=report,
            verdict=wording.verdict(report),
            curve_charts=plots.curve_charts(report),
            histogram_charts=plots.histogram_charts(report),
            reliability_charts=reliability_charts(report),
            command=command(report),
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gauntlet.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        check_named=wording.check_of,
        number=wording.number,
        budget=wording.budget,
        percent=wording.percent,
        interval=wording.interval,
    )
    environment.globals.update(
        norm_names=wording.NORM_NAMES,
        worst=wording.worst,
        check_names=wording.check_names,
        check_of=wording.check_of,
        perturbations=wording.perturbations,
        by_attack=by_attack,
        certified_at=certified_at,
        is_large=is_large,
        transfer_rate=transfer_rate,
        applies=wording.APPLIES,
        temperature_sources=wording.TEMPERATURE_SOURCES,
    )
    return environment


def is_large(picture: str) -> bool:
    """Return whether a base64 PNG, whose header has its width, is shown as a photograph and not pixel by pixel."""
    return int.from_bytes(base64.b64decode(picture[:32])[16:20], "big") > SHARP


def certified_at(model: ModelReport, norm: Norm, eps: float) -> Rate | None:
    """Return certified accuracy at a requested eps; None without a certificate."""
    rates = [
        point.rate
        for curve in model.curves
        if (curve.kind, curve.norm) == ("certified", norm)
        for point in curve.points
        if point.eps == eps
    ]
    return rates[0] if rates else None


def by_attack(model: ModelReport, norm: Norm) -> dict[str | None, list[Robustness]]:
    """Return the rows of the table of a norm: per attack (None: the worst of them) one entry per eps."""
    rows: dict[str | None, list[Robustness]] = {}
    for entry in model.robustness:
        if entry.norm == norm:
            rows.setdefault(entry.attack, []).append(entry)
    return rows


def transfer_rate(matrix: TransferMatrix, source: str, target: str) -> TransferRate | None:
    """Return the rate at which examples made on ``source`` fool ``target``; None on the diagonal."""
    return next((rate for rate in matrix.rates if (rate.source, rate.target) == (source, target)), None)


def command(report: Report) -> str:
    """Return the command line that repeats the measurement."""
    request = report.request
    threats = [f"{threat.norm}={','.join(f'{eps!r}' for eps in threat.eps)}" for threat in request.threats]
    arguments = ["python", "-m", "gauntlet", "report", "--dataset", request.dataset, "--n", str(request.n)]
    arguments += ["--models", *request.models, "--attacks", *request.attacks, "--threats", *threats]
    if request.smoothing is not None:
        parameters = request.smoothing.model_dump(exclude_none=True)
        arguments += ["--smoothing", *(f"{field}={value!r}" for field, value in parameters.items())]
    if request.bounds is not None:
        arguments += ["--bounds", str(request.bounds.images)]
    return shlex.join([*arguments, "--seed", str(request.seed)])
