"""What frameworks of security and quality ask of an evaluation, and where a report answers it. No network runs here.

MITRE ATLAS; OWASP Machine Learning Security Top 10 (2023) and AI Security Verification Standard 1.0 (draft of 2026);
ISO/IEC 24029-1 and -2; NIST AI 100-2 E2025. The words are ours: an item names what a framework is about, it does not
quote it, and an answer is evidence for an assessor, no statement of conformity.
"""

from collections.abc import Sequence

from gauntlet.attacks import ATTACKS
from gauntlet.report.schema import ReportRequest, StandardRecord


def answers(request: ReportRequest, constants: Sequence[float | None]) -> list[StandardRecord]:
    """Item by item; ``constants`` are the proved Lipschitz constants of the models, None where there is none."""
    ran = {access: _named(request, access) for access in ("gradient", "score", "label")}
    white = ran["gradient"]
    black = ", ".join(filter(None, (ran["score"], ran["label"])))
    transfer = "transfer between the models of the report" if len(request.models) > 1 else None
    proved = sum(constant is not None for constant in constants)
    certified = f"accuracy and radii of {proved} of {len(constants)} models, proved from the graph" if proved else None
    query = black or "square, in the checks"
    verified = "the served model confirms every success, inside its budget"
    everything = "robust accuracy under the worst of the attacks, with 95 % intervals"
    rows: tuple[tuple[str, str, str | None], ...] = (
        ("MITRE ATLAS", "AML.T0015 Evade AI Model", everything),
        ("MITRE ATLAS", "AML.T0043.000 Craft Adversarial Data: white-box optimization", white),
        ("MITRE ATLAS", "AML.T0043.001 Craft Adversarial Data: black-box optimization", query),
        ("MITRE ATLAS", "AML.T0043.002 Craft Adversarial Data: black-box transfer", transfer),
        ("MITRE ATLAS", "AML.T0042 Verify Attack", verified),
        ("OWASP Top 10 for machine learning", "ML01:2023 Input manipulation attack", everything),
        ("OWASP AISVS 1.0", "11.2.1 tested against known attacks of the modality", ", ".join(request.attacks)),
        ("OWASP AISVS 1.0", "11.2.4 certified metrics tracked per model version", certified and f"{certified}; sha256"),
        ("OWASP AISVS 1.0", "11.2.5 attacks adapted to the defence", None),  # takes somebody who knows the defence
        ("OWASP AISVS 1.0", "11.2.6 formal verification where the architecture allows it", certified),
        ("OWASP AISVS 1.0", "11.10.1 robustness by subgroup", "class by class"),
        ("ISO/IEC 24029-1", "empirical methods of assessing robustness", everything),
        ("ISO/IEC 24029-2", "formal methods of assessing robustness", certified),
        ("NIST AI 100-2 E2025", "NISTAML.022 Evasion", white),
        ("NIST AI 100-2 E2025", "NISTAML.025 Black-box evasion", query),
    )
    return [StandardRecord(framework=framework, item=item, answer=answer) for framework, item, answer in rows]


def _named(request: ReportRequest, access: str) -> str | None:
    """The attacks of the request that ask this much of the model."""
    return ", ".join(name for name in request.attacks if ATTACKS[name].access == access) or None
