"""Is a report's default set of attacks enough? ``strongest`` attacks the images that it does not break."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from bench.attacks.options import Options
from bench.attacks.records import Goal, Standing, table
from bench.attacks.section import Section
from bench.attacks.task import images_to_test, open_classifier, shipped
from gauntlet.attacks import ATTACKS
from gauntlet.evaluation import referee
from gauntlet.norms import Norm
from gauntlet.report.schema import ReportRequest
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import Threat

N = 100  # few, because strongest is slow
POINT = 0.01  # robust accuracy that strongest may take away at most


def run(options: Options) -> Section:
    """Measure every shipped classifier, at every eps of a default report, on its first n test images."""
    n = options.n or N
    results = [row for name in shipped() for row in measure(name, n, options.seed)]
    return Section(
        name="defaults",
        title=f"A report's default attacks beside strongest, first {n} test images",
        text=_table(results),
        results={"all": results},
        goals=[
            Goal(
                text=f"{row.model}, {row.norm} {row.eps:g}: share of the images that only strongest breaks",
                value=(row.default - row.strongest) / row.n,
                limit=POINT,
            )
            for row in results
        ],
    )


def measure(name: str, n: int, seed: int) -> Iterator[Standing]:
    """Measure one model; yield one row per norm and eps."""
    model = open_classifier(name)
    x, y = images_to_test(model, n)
    request = ReportRequest(models=[name], dataset=model.manifest.dataset, n=n)
    for threat in request.threats:
        attacks = [attack for attack in request.attacks if threat.norm in ATTACKS[attack].norms]
        start = time.perf_counter()
        smallest = torch.stack([sizes(model, attack, x, y, threat.norm, threat.eps, seed) for attack in attacks])
        seconds = time.perf_counter() - start
        for eps in threat.eps:
            rows = (smallest.amin(dim=0) > eps).nonzero().squeeze(1)
            left = referee.run(
                model, "strongest", x[rows], y[rows], Threat(threat.norm, eps), seed=seed, index=rows
            ).robust
            yield Standing(
                model=name,
                norm=threat.norm,
                eps=eps,
                n=n,
                default=len(rows),
                strongest=int(left.sum()),
                seconds=seconds,
            )


def sizes(model: Classifier, attack: str, x: Tensor, y: Tensor, norm: Norm, budgets: list[float], seed: int) -> Tensor:
    """Smallest perturbation of each image (n,) float64: 0 if misclassified unchanged, infinite if not broken."""
    smallest = []
    for eps in [None] if ATTACKS[attack].sweeps(norm) else budgets:
        outcome = referee.run(model, attack, x, y, Threat(norm, eps), seed=seed)
        size = outcome.size(norm) if eps is None else torch.full_like(outcome.l2, eps).where(outcome.success, torch.inf)
        smallest.append(torch.where(outcome.correct, size, 0.0))
    return torch.stack(smallest).amin(dim=0)


def _table(results: list[Standing]) -> str:
    rows = [
        [
            row.model,
            f"{row.norm} {row.eps:g}",
            f"{row.default / row.n:.4f}",
            f"{row.strongest / row.n:.4f}",
            f"{row.seconds:.0f}",
        ]
        for row in results
    ]
    return table(
        ["model", "eps", "robust under the defaults", "and strongest", "seconds of the defaults, all eps"], rows
    )
