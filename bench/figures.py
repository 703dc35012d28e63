"""``python -m bench.figures [SECTION ...]``: the Fashion-MNIST figures of docs/results.md, from the shipped files.

The tables of all models are made by ``bench.results`` and ``python -m training table``. All figures are measured on the
Fashion-MNIST test set in the repository; "n images" are the first n that qualify, seed 0. Prints Markdown.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from gauntlet.artifacts import evaluation_sets
from gauntlet.evaluation import referee
from gauntlet.evaluation.outcome import Outcome
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.report import statistics
from gauntlet.runtime import classifier
from gauntlet.runtime.classifier import Classifier, Generator, OnnxClassifier
from gauntlet.threat import Threat
from training.table import share

MODELS = Path("models/artifacts")
EVALSETS = Path("models/evalsets")
STANDARD, LIPSCHITZ = "fashion-mnist-standard", "fashion-mnist-lipschitz"
CONTROLS = ("fashion-mnist-standard-control", "fashion-mnist-lipschitz-control")  # another seed; no constraint
CERTIFIED_AT = (36, 72, 108)  # of 255


def median(values: Tensor) -> str:
    """Return the median as text; a failed attack counts as infinite."""
    middle = statistics.median(values.double().numpy())
    return "infinite" if middle is None else f"{middle:.3f}"


@dataclass(frozen=True)
class Bench:
    """The shipped models and the test set, each classified once."""

    models: dict[str, OnnxClassifier | Generator]
    x: Tensor  # (10000, 1, 28, 28)
    y: Tensor  # (10000,)

    def classifier(self, name: str) -> Classifier:
        model = self.models[name]
        assert isinstance(model, OnnxClassifier)
        return model

    @cached_property
    def logits(self) -> dict[str, Tensor]:
        return {name: model.predict(self.x) for name, model in self.models.items() if isinstance(model, OnnxClassifier)}

    def right(self, n: int, *names: str) -> Tensor:
        """Rows of the first n images that all the named models classify correctly."""
        hits = torch.stack([self.logits[name].argmax(dim=1) == self.y for name in names]).all(dim=0)
        return hits.nonzero().squeeze(1)[:n]

    def attack(self, name: str, attack: str, rows: Tensor, threat: Threat, **params: object) -> Outcome:
        x, y = self.x[rows], self.y[rows]
        return referee.run(self.classifier(name), attack, x, y, threat, index=rows, params=params)


def accuracy(bench: Bench) -> None:
    """Clean and certified accuracy on the whole test set."""
    certified = " | ".join(f"certified at L2 {c}/255" for c in CERTIFIED_AT)
    print(f"n = {len(bench.y)}\n\n| model | clean | proved Lipschitz constant | {certified} |")
    print("| --- | --- | --- |" + " --- |" * len(CERTIFIED_AT))
    for name, logits in bench.logits.items():
        certificate, hits = bench.classifier(name).certificate, logits.argmax(dim=1) == bench.y
        radius = certificate.radius(logits)
        proved = "none" if certificate.lipschitz is None else f"{certificate.lipschitz:.4g}"
        cells = [
            "none" if radius is None else share(torch.from_numpy(hits.numpy() & (radius >= c / 255)))
            for c in CERTIFIED_AT
        ]
        print(f"| {name} | {share(hits)} | {proved} | {' | '.join(cells)} |")


def minimal(bench: Bench) -> None:
    """Carlini-Wagner on ``standard``, and the L2 distances that DDN needs on ``standard`` and ``lipschitz``."""
    rows = bench.right(500, STANDARD)
    outcome = bench.attack(STANDARD, "cw", rows, Threat("l2"))
    print(f"cw (6 x 200) on {STANDARD}, {len(rows)} correctly classified images: success {share(outcome.success)}, ")
    print(f"median L2 {median(outcome.minimal['l2'])}.\n")
    rows = bench.right(500, STANDARD, LIPSCHITZ)
    needed = {
        name: bench.attack(name, "ddn", rows, Threat("l2"), steps=200).minimal["l2"] for name in (STANDARD, LIPSCHITZ)
    }
    print(f"Median L2 that ddn (200 steps) needs, {len(rows)} images that both classify correctly: ", end="")
    print(", ".join(f"{name} {median(values)}" for name, values in needed.items()), end="")
    print(f"; ratio {float(needed[LIPSCHITZ].median() / needed[STANDARD].median()):.2f}.")


def certificates(bench: Bench) -> None:
    """Attacks just inside the certified radius."""
    model = bench.classifier(LIPSCHITZ)
    rows = bench.right(500, LIPSCHITZ)
    proved = model.certificate.radius(bench.logits[LIPSCHITZ][rows])
    assert proved is not None
    radii = torch.from_numpy(proved)
    best = torch.full((len(rows),), torch.inf, dtype=torch.float64)
    broken = torch.zeros(len(rows), dtype=torch.int64)
    for attack, params in {"ddn": {"steps": 100}, "cw": {}}.items():
        found = bench.attack(LIPSCHITZ, attack, rows, Threat("l2"), **params).minimal["l2"]
        broken += (found <= 0.999 * radii).long()
        best = torch.minimum(best, found)
    for i, row in enumerate(rows):  # every image has a budget of its own
        for attack in ("fgsm", "pgd", "noise"):
            broken[i] += int(bench.attack(LIPSCHITZ, attack, row[None], Threat("l2", 0.999 * float(radii[i]))).success)
    ratio = best / radii
    print(f"{LIPSCHITZ}, {len(rows)} correctly classified images, every L2 attack at 0.999 of the certified radius")
    print(f"(ddn 100 steps, cw 6 x 200, fgsm, noise, pgd 40): {int(broken.sum())} successes. Median certified radius")
    print(f"{median(radii)}, median smallest distance found {median(best)}, median ratio {median(ratio)}, ", end="")
    print(f"smallest ratio {float(ratio.min()):.3f}.")


def transfer(bench: Bench) -> None:
    """Adversarial examples of ``standard`` that ``lipschitz`` and the two controls classify correctly."""
    rows = bench.right(500, STANDARD, LIPSCHITZ, *CONTROLS)
    y = bench.y[rows]
    needed = bench.attack(LIPSCHITZ, "ddn", rows, Threat("l2"), steps=100).minimal["l2"]
    recipes: list[tuple[str, str, Threat, Mapping[str, object]]] = [
        *((f"cw, kappa {kappa}", "cw", Threat("l2"), {"kappa": kappa}) for kappa in (0, 5, 10, 20)),
        *((f"pgd, L2 eps {eps}", "pgd", Threat("l2", eps), {"early_stop": False}) for eps in (0.5, 1.0, 1.5, 2.0)),
    ]
    print(f"{len(rows)} images that {STANDARD}, {LIPSCHITZ} and both controls (standard from another seed; lipschitz'")
    print("architecture without the constraint) classify correctly; of the attack's successes on standard, the share")
    print("that another model classifies right again, and the gap to the better control. White box: the share of the")
    print(f"same images on which ddn, run on {LIPSCHITZ} itself, finds nothing within the same L2 distance.\n")
    print("| made on standard | successes | median L2 | right again: lipschitz | seed | control | gap | white box |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for label, attack, threat, params in recipes:
        outcome = bench.attack(STANDARD, attack, rows, threat, **params)
        won = outcome.success
        shown, truth, size = outcome.images[won], y[won], outcome.l2[won]
        again = [bench.classifier(name).predict(shown).argmax(dim=1) == truth for name in (LIPSCHITZ, *CONTROLS)]
        ours, *others = (float(hits.double().mean()) for hits in again)
        gap = 100 * (ours - max(others))
        cells = [label, f"{int(won.sum())} of {len(rows)}", median(size), *map(share, again), f"{gap:+.1f}"]
        print(f"| {' | '.join(cells)} | {share(needed[won] > size)} |", flush=True)


def generation(bench: Bench) -> None:
    """Class coverage of the generators, judged by ``standard``."""
    judge = bench.classifier(STANDARD)
    print("2,000 samples each, seed 0, as classified by fashion-mnist-standard, in per cent of the samples\n")
    print(f"| generator | {' | '.join(judge.manifest.classes)} |\n| --- |" + " --- |" * len(judge.manifest.classes))
    for name, model in bench.models.items():
        if isinstance(model, Generator):
            samples = model.generate(KeyedRandom.span(0, 0, 2000).normal(0, (model.manifest.latent_dim,)))
            counts = torch.bincount(judge.predict(samples).argmax(dim=1), minlength=len(judge.manifest.classes))
            print(f"| {name} | {' | '.join(f'{100 * int(count) / 2000:.1f}' for count in counts)} |")


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "accuracy": accuracy,
    "generation": generation,
    "minimal": minimal,
    "certificates": certificates,
    "transfer": transfer,
}


def main() -> None:
    """Print the chosen sections, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all")
    chosen = parser.parse_args().sections or list(SECTIONS)
    if unknown := sorted(set(chosen) - set(SECTIONS)):
        parser.error(f"there is no section {unknown[0]!r}")
    x, y = map(torch.from_numpy, evaluation_sets.load(EVALSETS / "fashion-mnist.npz").head(10_000))
    models = {
        name: model for name, model in classifier.open_all(MODELS).items() if model.manifest.dataset == "fashion-mnist"
    }
    bench = Bench(models, x, y)
    for name in chosen:
        print(f"\n### {name}: {(SECTIONS[name].__doc__ or '').strip()}\n")
        SECTIONS[name](bench)


if __name__ == "__main__":
    main()
