"""The strongest attack there is here, made of the others."""

from typing import Any

from gauntlet.norms import Norm

Member = tuple[str, dict[str, Any]]

SUMMARY = """\
Attacks of different kinds in turn, each on what still stands: the first success within eps counts, else the smallest.

Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks",
arXiv 2003.01690. Theirs is the order: white-box attacks first, at a fixed eps a black-box attack last, so that masked
gradients are not taken for robustness. An image that came near a success is tried once more, alone."""

WITHIN: dict[Norm, tuple[Member, ...]] = {
    "linf": (
        ("apgd", {}),
        ("fmn", {"steps": 100, "step_size": 1.0}),
        ("apgd-t", {"targets": 3}),
        ("square", {"queries": 1000}),
    ),
    "l2": (("apgd", {}), ("apgd-t", {}), ("fab", {}), ("square", {"queries": 2000})),
}
"""At a fixed eps: the first success counts. In the other norms, the attacks below."""

AIMED: dict[Norm, tuple[Member, ...]] = {
    "linf": (
        ("apgd", {"objective": "dlr"}),
        ("apgd", {}),
        ("fmn", {"steps": 100}),
        ("square", {"queries": 1000}),
    ),
    "l2": (("apgd", {"objective": "dlr"}), ("apgd", {}), ("fab", {"steps": 100}), ("square", {"queries": 2000})),
}
"""At a fixed eps with a class to reach. In the other norms, the attacks below."""

AGAIN: Member = ("apgd", {"restarts": 4})
"""At a fixed eps, at last: on each image that came near, alone. There its result can differ by rounding alone."""

NEAREST: dict[Norm, tuple[Member, ...]] = {
    "linf": (("fmn", {"steps": 150}), ("cw-linf", {})),
    "l2": (("fab", {"steps": 200, "targets": 4}), ("alma", {"steps": 500})),
    "l1": (("fmn", {"steps": 150}), ("alma", {"steps": 500})),
    "l0": (("sigma-zero", {"steps": 300}), ("fmn", {"steps": 100})),
}
"""Without an eps: the smallest success counts."""
