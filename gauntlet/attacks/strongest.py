"""The members of ``strongest``, an ensemble of the other attacks, and their parameters."""

from typing import Any

from gauntlet.norms import Norm

Member = tuple[str, dict[str, Any]]

SUMMARY = """\
Runs attacks of different kinds in turn: at a fixed eps on the images not broken yet, else for the smallest success.

Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks",
arXiv 2003.01690. The order is theirs: white-box attacks first, at a fixed eps a black-box attack last, so that masked
gradients are not mistaken for robustness. An almost broken image is attacked once more, in a batch of its own."""

WITHIN: dict[Norm, tuple[Member, ...]] = {
    "linf": (
        ("apgd", {}),
        ("fmn", {"steps": 100, "step_size": 1.0}),
        ("apgd-t", {"targets": 3}),
        ("square", {"queries": 1000}),
    ),
    "l2": (("apgd", {}), ("apgd-t", {}), ("fab", {}), ("square", {"queries": 2000})),
}
"""Members at a fixed eps, where the first success counts. In the other norms, those of NEAREST run."""

AIMED: dict[Norm, tuple[Member, ...]] = {
    "linf": (
        ("apgd", {"objective": "dlr"}),
        ("apgd", {}),
        ("fmn", {"steps": 100}),
        ("square", {"queries": 1000}),
    ),
    "l2": (("apgd", {"objective": "dlr"}), ("apgd", {}), ("fab", {"steps": 100}), ("square", {"queries": 2000})),
}
"""Members at a fixed eps with a target class. In the other norms, those of NEAREST run."""

AGAIN: Member = ("apgd", {"restarts": 4})
"""At a fixed eps, finally, on each almost broken image in a batch of its own: rounding alone can change its result."""

NEAREST: dict[Norm, tuple[Member, ...]] = {
    "linf": (("fmn", {"steps": 150}), ("cw-linf", {})),
    "l2": (("fab", {"steps": 200, "targets": 4}), ("alma", {"steps": 500})),
    "l1": (("fmn", {"steps": 150}), ("alma", {"steps": 500})),
    "l0": (("sigma-zero", {"steps": 300}), ("fmn", {"steps": 100})),
}
"""Members without an eps, where the smallest success counts."""
