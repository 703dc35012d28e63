"""Checks that need no network: do the results of a report agree with each other?"""

from collections.abc import Iterator, Mapping

import torch

from gauntlet.attacks import ATTACKS, price
from gauntlet.certify.smoothing import lower_bound
from gauntlet.checks import white_box
from gauntlet.norms import Norm
from gauntlet.report.model_results import Measured, transferred
from gauntlet.report.records import SmoothedMeasurement
from gauntlet.report.schema import CertificateRecord, CheckRecord, Curve, ReportRequest
from gauntlet.report.statistics import Floats


def checks(
    request: ReportRequest,
    name: str,
    measured: Mapping[str, Measured],
    certificate: CertificateRecord,
    curves: list[Curve],
) -> Iterator[CheckRecord]:
    """Yield the checks of a model's answers, of its certificates, if any, and of its attacks."""
    yield _answered(measured[name])
    if measured[name].proves:
        yield CheckRecord(
            name="no attack inside a certificate",
            passed=certificate.contradictions == 0,
            measured=f"{certificate.contradictions} images broken inside their certified radius",
            meaning="Images were broken inside their certified radius: the certificate is wrong.",
            advice="Do not rely on the certificate; report the graph and the images to the prover's authors.",
        )
        yield _certified_below_robust(curves, measured[name])
    if certificate.lipschitz is not None:
        yield CheckRecord(
            name="no gradient above the constant",
            passed=not certificate.refuted,
            measured=f"largest Jacobian norm {certificate.steepest:.4g}, proved {certificate.lipschitz:.4g}",
            meaning="The Jacobian of the model is somewhere larger than the proved constant: the certificate is wrong.",
            advice="Do not rely on the certificate; report the graph to the prover's authors.",
        )
    if (found := measured[name].smoothed) is not None:
        yield _smoothed_keeps_its_label(found)
    if "l2" in (threat.norm for threat in request.threats):
        yield _probe_below_attacks(request, measured[name])
    if len(request.models) > 1:
        yield _transfer_below_white_box(request, name, measured)


NAMED = 10  # images without an answer that are listed, at most


def _answered(own: Measured) -> CheckRecord:
    unanswered, n = own.unanswered, len(own.y)
    more = ", ..." if len(unanswered) > NAMED else ""
    which = f": {', '.join(map(str, unanswered[:NAMED]))}{more}" if unanswered else ""
    return CheckRecord(
        name="every image is answered",
        passed=not unanswered,
        measured=f"no answer to {len(unanswered)} of {n} images{which}",
        meaning="The model answers some images with NaN or infinite logits, which name no class: they count as wrong.",
        advice="Look for logarithms, roots and divisions at zero; any user can send such an image.",
    )


def iterative_attacks_ran(request: ReportRequest, own: Measured) -> CheckRecord:
    """Check, for a model with gradients, that in each norm an attack stronger than noise or a single step was run."""
    strong = {
        cell.norm
        for cell in own.attacks
        if cell.attack and ATTACKS[cell.attack].access == "gradient" and price(cell.attack, {}) >= ITERATIVE
    }
    weak = sorted({threat.norm for threat in request.threats} - strong)
    return CheckRecord(
        name="iterative attacks were run",
        passed=not weak,
        measured=f"none in {', '.join(weak)}" if weak else "in every norm",
        meaning="Only noise, single steps or black-box attacks were run: robust accuracy is that of weak attacks.",
        advice="Add `strongest`, or `apgd` and `fmn`, or leave the attacks out for the default ones.",
    )


ITERATIVE = 10  # an attack needs at least so many gradient steps for its robust accuracy to mean something
SURPRISING = 0.001  # a check raises an alarm if its observation is less likely than this by chance


def _smoothed_keeps_its_label(found: SmoothedMeasurement) -> CheckRecord:
    """Check certificates by fresh votes inside their radii.

    A vote refutes a certificate if, at confidence 1 - ``alpha``, most draws are against the label. A sound certificate
    is wrong, or refuted by chance, with probability at most 2 alpha: that share of refutations is tolerated.
    """
    alpha, shown = found.smoothing.alpha, len(found.shown)
    lost = sum(lower_bound(found.draws - kept, found.draws, alpha) > 0.5 for kept in found.kept)
    return CheckRecord(
        name="the smoothed classifier keeps its label",
        passed=lower_bound(lost, shown, SURPRISING) <= 2 * alpha,
        measured=f"{lost} of {shown} certified images lose it when moved by 0.99 of their radius towards an "
        f"adversarial example of the network ({sum(found.inside)} of these examples lie inside the radius); "
        f"{found.draws} fresh draws each",
        meaning="Inside the certified radius, the smoothed classifier changes its answer on more images than its alpha "
        f"allows (probability below {SURPRISING:g}): the smoothed certificates are wrong.",
        advice="Do not rely on them; report the model to this program's authors.",
    )


def _certified_below_robust(curves: list[Curve], own: Measured) -> CheckRecord:
    certified = [curve for curve in curves if curve.kind == "certified"]
    proved = [(curve.norm, point.eps, point.rate.k) for curve in certified for point in curve.points]
    crossed = [f"{norm} {eps:g}" for norm, eps, k in proved if k > (own.smallest(norm) > eps).sum()]
    return CheckRecord(
        name="certified below robust",
        passed=not crossed,
        measured=f"crossed at {', '.join(crossed)}" if crossed else f"at each of {len(proved)} distances",
        meaning="More images are certified than survive the attacks: one of the two figures is wrong.",
        advice="Do not rely on the certificate.",
    )


def _probe_below_attacks(request: ReportRequest, own: Measured) -> CheckRecord:
    better, probe, report, place = max(
        (_outdone(own.probed_l2(), own.smallest("l2"), "l2", eps) for eps in _eps(request, "l2")),
        default=(False, 0, 0, ""),
    )
    return CheckRecord(
        name="the report's attacks beat the checks' search",
        passed=not better,
        measured=f"at {place} the search alone breaks {probe}, the report's attacks alone {report} images",
        meaning="A short search for the nearest examples breaks images that the attacks of the report do not: its "
        "robust accuracy is too high.",
        advice="Add `strongest`, or leave the attacks out for the default ones.",
    )


def _eps(request: ReportRequest, norm: Norm) -> list[float]:
    return [eps for threat in request.threats if threat.norm == norm for eps in threat.eps]


def _outdone(weak: Floats, strong: Floats, norm: Norm, eps: float) -> tuple[bool, int, int, str]:
    """Return the result of ``white_box.beats`` for the images broken within eps, and norm and eps as text."""
    pair = (torch.from_numpy(distances <= eps) for distances in (weak, strong))
    return *white_box.beats(*pair), f"{norm} {eps:g}"


def _transfer_below_white_box(request: ReportRequest, name: str, measured: Mapping[str, Measured]) -> CheckRecord:
    worst = (False, 0, 0, "")
    for norm in (threat.norm for threat in request.threats):
        own, foreign = measured[name].smallest(norm), transferred(measured, name, norm)
        worst = max(worst, *(_outdone(foreign, own, norm, eps) for eps in _eps(request, norm)))
    better, ours, theirs, place = worst
    return CheckRecord(
        name="own attacks beat transferred ones",
        passed=not better,
        measured=f"at {place} other models' examples alone break {ours}, its own alone {theirs} images"
        if place
        else "no example transfers that its own attacks miss",
        meaning="Examples made on other models break images that attacks on this one do not: its gradients are masked.",
        advice="Count the transferred examples as well; look for what masks the gradients.",
    )
