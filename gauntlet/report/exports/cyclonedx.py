"""A report as a CycloneDX 1.6 ML-BOM: each model with a model card whose performance metrics have intervals."""

import json
import uuid
from typing import Any

from gauntlet.report.exports.gate import Gate
from gauntlet.report.headline import Headline, headlines
from gauntlet.report.schema import ModelReport, Report
from gauntlet.report.wording import NORM_NAMES, budget, verdict
from gauntlet.version import __version__

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:gauntlet:ml-bom")


def render(report: Report, gate: Gate) -> str:
    """Return the JSON. The same report gives the same bytes: its serial number derives from it, without a timestamp."""
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, report.model_dump_json())}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "gauntlet", "version": __version__}]},
        },
        "components": [*(_model(report, model, gate) for model in report.models), _images(report)],
        "dependencies": [{"ref": _ref(model)} for model in report.models],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _model(report: Report, model: ModelReport, gate: Gate) -> dict[str, Any]:
    images = f"first {report.request.n} images of {report.evalset.name}"
    limits = [
        finding.text for finding in verdict(report) if finding.alarm and finding.text.startswith(f"{model.name}:")
    ]
    missed = [outcome for outcome in gate.missed(report) if outcome.model == model.name]
    limits += [f"Misses the requirement {outcome.requirement.text} ({outcome.text})" for outcome in missed]
    attacks = ", ".join(attack.name for attack in report.attacks)
    proved = "none" if model.certificate.lipschitz is None else f"{model.certificate.lipschitz:.6g}"
    return {
        "type": "machine-learning-model",
        "bom-ref": _ref(model),
        "name": model.name,
        "hashes": [{"alg": "SHA-256", "content": model.sha256}],
        "modelCard": {
            "modelParameters": {"task": "image classification", "architectureFamily": model.family},
            "quantitativeAnalysis": {
                "performanceMetrics": [_metric(headline, images, attacks) for headline in headlines(model)]
            },
            **({"considerations": {"technicalLimitations": limits}} if limits else {}),
        },
        "properties": [
            {"name": "gauntlet:lipschitz-constant-l2", "value": proved},
            {"name": "gauntlet:device", "value": model.device},
        ],
    }


def _metric(headline: Headline, images: str, attacks: str) -> dict[str, Any]:
    name = f"{headline.kind} accuracy"
    if headline.norm is not None:
        name += f" at {NORM_NAMES[headline.norm]} {budget(headline.eps)}"
    if headline.kind == "robust":
        name += f", under the worst of {attacks}"
    rate = headline.rate
    return {
        "type": name,
        "value": "not measured" if rate.value is None else f"{rate.value:.6f}",
        "slice": f"{images} ({rate.k} of {rate.n})",
        "confidenceInterval": {"lowerBound": f"{rate.low:.6f}", "upperBound": f"{rate.high:.6f}"},
    }


def _images(report: Report) -> dict[str, Any]:
    images = report.evalset
    return {
        "type": "data",
        "bom-ref": f"data:{images.sha256}",
        "name": images.name,
        "hashes": [{"alg": "SHA-256", "content": images.sha256}],
        "licenses": [{"license": {"name": images.licence}}],
        "data": [{"type": "dataset", "name": images.name, "description": f"{images.available} labelled images"}],
    }


def _ref(model: ModelReport) -> str:
    return f"model:{model.name}:{model.sha256}"
