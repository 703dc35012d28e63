"""A report in MLflow: parameters, metrics with their intervals, and the report itself as artefacts of a run."""

from typing import Any

from gauntlet.artifacts.mlflow_package import client
from gauntlet.report import page
from gauntlet.report.exports import markdown
from gauntlet.report.exports.gate import Gate
from gauntlet.report.headline import headlines
from gauntlet.report.schema import Report


def log(report: Report, gate: Gate) -> str:
    """Record the report as a run, under the active one if there is one. Returns the run's id.

    Tracking server and experiment are MLflow's own settings: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME.
    """
    mlflow = client()
    with mlflow.start_run(run_name="gauntlet report", nested=mlflow.active_run() is not None) as run:
        mlflow.log_params(_params(report))
        mlflow.log_metrics(metrics(report))
        mlflow.set_tags(_tags(report, gate))
        mlflow.log_text(report.model_dump_json(indent=1), "report.json")
        mlflow.log_text(page.render(report), "report.html")
        mlflow.log_text(markdown.summary(report, gate), "report.md")
        run_id: str = run.info.run_id
    return run_id


def metrics(report: Report) -> dict[str, float]:
    """Return metrics such as ``MODEL/robust_accuracy/linf/0.03``; ``_low`` and ``_high`` are the 95 % interval."""
    found: dict[str, float] = {}
    for model in report.models:
        for headline in headlines(model):
            place = "" if headline.norm is None else f"/{headline.norm}/{headline.eps:g}"
            name, rate = f"{model.name}/{headline.kind}_accuracy{place}", headline.rate
            if rate.value is not None:
                found |= {name: rate.value, f"{name}_low": rate.low, f"{name}_high": rate.high}
    return found


def _params(report: Report) -> dict[str, Any]:
    request = report.request
    threats = "; ".join(f"{threat.norm}={','.join(map(str, threat.eps))}" for threat in request.threats)
    return {
        "models": ", ".join(request.models),
        "dataset": request.dataset,
        "n": request.n,
        "attacks": ", ".join(request.attacks),
        "threats": threats,
        "seed": request.seed,
    }


def _tags(report: Report, gate: Gate) -> dict[str, str]:
    missed = [f"{outcome.model}: {outcome.requirement.text}" for outcome in gate.missed(report)]
    return {
        "gauntlet.sound": str(report.sound).lower(),
        "gauntlet.missed": "; ".join(missed),
        "gauntlet.dataset_sha256": report.evalset.sha256,
        **{f"gauntlet.sha256.{model.name}": model.sha256 for model in report.models},
    }
