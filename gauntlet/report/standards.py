"""What security and quality frameworks require of an evaluation, and where a report answers it. Runs no network.

MITRE ATLAS, release 2026.05; OWASP Machine Learning Security Top 10 (2023) and AI Security Verification Standard 1.0
as released; ISO/IEC 24029-1 and -2; NIST AI 100-2 E2025; Regulation (EU) 2024/1689 (AI Act), Article 15. The wording
is ours: an item names what a framework is about and does not quote it, and an answer is evidence for an assessor, not a
statement of conformity.
"""

from collections.abc import Sequence

from gauntlet.attacks import ATTACKS
from gauntlet.report.schema import ReportRequest, StandardRecord

ATLAS, AISVS, AI_ACT = "MITRE ATLAS 2026.05", "OWASP AISVS 1.0", "EU AI Act, Article 15"
NOISE = ("noise", "gaussian")  # attacks that need no adversary: random noise


def answers(request: ReportRequest, constants: Sequence[float | None]) -> list[StandardRecord]:
    """Return one record per item; ``constants`` are the proved Lipschitz constants of the models, None without one."""
    ran = {access: _named(request, access) for access in ("gradient", "score", "label")}
    white = ran["gradient"]
    black = ", ".join(filter(None, (ran["score"], ran["label"])))
    transfer = "transfer between the models of the report" if len(request.models) > 1 else None
    proved = sum(constant is not None for constant in constants)
    certified = f"accuracy and radii of {proved} of {len(constants)} models, proved from the graph" if proved else None
    query = black or "square, in the checks"
    verified = "the served model confirms every success, inside its budget"
    everything = "robust accuracy under the worst of the attacks, with 95 % intervals"
    accuracy = "clean accuracy of each model with its 95 % interval, and the evaluation set by its sha256"
    disturbed = ", ".join(name for name in request.attacks if name in NOISE)
    noise = ", ".join(filter(None, (disturbed, "smoothed accuracy" if request.smoothing else "")))
    rows: tuple[tuple[str, str, str | None], ...] = (
        (ATLAS, "AML.T0015 Evade AI Model", everything),
        (ATLAS, "AML.T0043.000 Craft Adversarial Data: white-box optimization", white),
        (ATLAS, "AML.T0043.001 Craft Adversarial Data: black-box optimization", query),
        (ATLAS, "AML.T0043.002 Craft Adversarial Data: black-box transfer", transfer),
        (ATLAS, "AML.T0042 Verify Attack", verified),
        ("OWASP Top 10 for machine learning", "ML01:2023 Input manipulation attack", everything),
        (AISVS, "11.1.3 evaluated against known attacks of the modality", ", ".join(request.attacks)),
        (AISVS, "11.1.4 hardened against adversarial inputs", f"{everything}, to compare the models"),
        (AISVS, "11.2.2 rate limits sized to the extraction threat", None),
        (AISVS, "11.3.1 query patterns that look like an extraction", None),
        (AISVS, "11.4.1 anomaly detection before inference", None),
        ("ISO/IEC 24029-1", "empirical methods of assessing robustness", everything),
        ("ISO/IEC 24029-2", "formal methods of assessing robustness", certified),
        ("NIST AI 100-2 E2025", "NISTAML.022 Evasion", white),
        ("NIST AI 100-2 E2025", "NISTAML.025 Black-box evasion", query),
        (AI_ACT, "15(3) levels of accuracy, and their metrics, to declare", accuracy),
        (AI_ACT, "15(4) robustness against errors and disturbances of the input", noise or None),
        (AI_ACT, "15(5) cybersecurity: adversarial examples and model evasion", everything),
        (AI_ACT, "15(5) cybersecurity: a bound that holds for attacks not known yet", certified),
        (AI_ACT, "15(5) cybersecurity: poisoned data or models, confidentiality", None),
    )
    return [StandardRecord(framework=framework, item=item, answer=answer) for framework, item, answer in rows]


def _named(request: ReportRequest, access: str) -> str | None:
    """Return the attacks of the request that need this access to the model, as text; None if there are none."""
    return ", ".join(name for name in request.attacks if ATTACKS[name].access == access) or None
