"""Checks that need no network: do the results of a report agree with each other?"""

from collections.abc import Iterator, Mapping

import torch

from gauntlet.attacks import ATTACKS, price
from gauntlet.certify.smoothing import lower_bound
from gauntlet.checks import white_box as examined
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
    """Of the model's answers, of its certificate, if any, and of its attacks beside other models' examples."""
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
            meaning="The model is somewhere steeper than what was proved: the certificate is wrong.",
            advice="Do not rely on the certificate; report the graph to the prover's authors.",
        )
    if (found := measured[name].smoothed) is not None:
        yield _smoothed_keeps_its_label(found)
    if "l2" in (threat.norm for threat in request.threats):
        yield _probe_below_attacks(request, measured[name])
    if len(request.models) > 1:
        yield _transfer_below_white_box(request, name, measured)


NAMED = 10  # images without an answer that are named


def _answered(own: Measured) -> CheckRecord:
    silent, n = own.unanswered, len(own.y)
    which = f": {', '.join(map(str, silent[:NAMED]))}{', ...' if len(silent) > NAMED else ''}" if silent else ""
    return CheckRecord(
        name="every image is answered",
        passed=not silent,
        measured=f"no answer to {len(silent)} of {n} images{which}",
        meaning="The model answers images with NaN or infinite numbers, which is no class: they count as wrong.",
        advice="Look for logarithms, roots and divisions at zero; any user can send such an image.",
    )


def iterative_attacks_ran(request: ReportRequest, own: Measured) -> CheckRecord:
    """Of a model with gradients: whether, in each norm, something stronger than noise or a single step was run."""
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


ITERATIVE = 10  # gradient steps of an attack, at least, for its robust accuracy to mean something
SURPRISING = 0.001  # a check raises an alarm where what it saw is less likely than this


def _smoothed_keeps_its_label(found: SmoothedMeasurement) -> CheckRecord:
    """A vote refutes a certificate where a majority would lose it with probability ``alpha`` at most.

    Sound certificates are wrong, or refuted by chance, with probability 2 alpha at most each: so many are let pass.
    """
    alpha, shown = found.smoothing.alpha, len(found.shown)
    lost = sum(lower_bound(found.draws - kept, found.draws, alpha) > 0.5 for kept in found.kept)
    return CheckRecord(
        name="the smoothed classifier keeps its label",
        passed=lower_bound(lost, shown, SURPRISING) <= 2 * alpha,
        measured=f"{lost} of {shown} certified images lose it at 0.99 of their radius, on the way to an example of the "
        f"network's ({sum(found.inside)} of these lie inside the radius); {found.draws} fresh draws each",
        meaning="Inside its radius the smoothed classifier answers otherwise, on more images than its alpha allows "
        f"(probability below {SURPRISING:g}): the smoothed certificates are wrong.",
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
    """As ``checks.beats`` for what breaks within eps, and where that is."""
    pair = (torch.from_numpy(distances <= eps) for distances in (weak, strong))
    return *examined.beats(*pair), f"{norm} {eps:g}"


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
