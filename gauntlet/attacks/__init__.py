"""The attacks. One file each, one function per paper; the registry below is all there is to registering one.

The signature of an attack is its interface: keyword parameters with their bounds become the JSON schema of the service.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, create_model
from torch import Tensor

from gauntlet.attacks.alma import alma
from gauntlet.attacks.apgd import apgd, apgd_t
from gauntlet.attacks.cw import cw
from gauntlet.attacks.cw_linf import cw_linf
from gauntlet.attacks.ddn import ddn
from gauntlet.attacks.fab import fab
from gauntlet.attacks.fgsm import fgsm
from gauntlet.attacks.fmn import fmn
from gauntlet.attacks.gaussian import gaussian
from gauntlet.attacks.hopskipjump import hopskipjump
from gauntlet.attacks.mifgsm import mifgsm
from gauntlet.attacks.noise import noise
from gauntlet.attacks.pgd import pgd
from gauntlet.attacks.square import square
from gauntlet.attacks.superdeepfool import superdeepfool
from gauntlet.norms import Norm

_GIVEN = {"generator", "targeted"}  # set by the referee, not by a user
_REPEATS = {"steps", "restarts", "searches", "draws", "targets", "queries"}  # each multiplies the price


@dataclass(frozen=True)
class Attack:
    """An attack function and what the referee and a user must know of it."""

    run: Callable[..., Tensor]
    norms: frozenset[Norm]
    minimum_norm: bool = False  # looks for the smallest success instead of any success within eps
    access: Literal["gradient", "score", "label"] = "gradient"  # the most that it asks of the model

    @cached_property
    def params(self) -> type[BaseModel]:
        """The parameters as a pydantic model, read from the function's signature."""
        signature = inspect.signature(self.run)
        fields: dict[str, Any] = {
            name: (parameter.annotation, parameter.default)
            for name, parameter in signature.parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and name not in _GIVEN
        }
        name = f"{self.run.__name__.title()}Params"
        return create_model(name, __config__=ConfigDict(extra="forbid", frozen=True), **fields)

    @property
    def targeted(self) -> bool:
        """Whether the attack can aim at a chosen class."""
        return "targeted" in inspect.signature(self.run).parameters

    @property
    def summary(self) -> str:
        """What it does, and the paper it comes from."""
        return inspect.getdoc(self.run) or ""

    def gradient_steps(self, params: BaseModel) -> int:
        """Model evaluations per image, for pricing; where each has its gradient, a few more test the ends."""
        return prod(value for name, value in params if name in _REPEATS)


ATTACKS: dict[str, Attack] = {
    "alma": Attack(alma, frozenset({"l2", "l1"}), minimum_norm=True),
    "apgd": Attack(apgd, frozenset({"linf", "l2"})),
    "apgd-t": Attack(apgd_t, frozenset({"linf", "l2"})),
    "cw": Attack(cw, frozenset({"l2"}), minimum_norm=True),
    "cw-linf": Attack(cw_linf, frozenset({"linf"}), minimum_norm=True),
    "ddn": Attack(ddn, frozenset({"l2"}), minimum_norm=True),
    "fab": Attack(fab, frozenset({"l2"}), minimum_norm=True),
    "fgsm": Attack(fgsm, frozenset({"linf", "l2"})),
    "fmn": Attack(fmn, frozenset({"linf", "l2", "l1", "l0"}), minimum_norm=True),
    "gaussian": Attack(gaussian, frozenset({"linf", "l2"}), access="score"),
    "hopskipjump": Attack(hopskipjump, frozenset({"linf", "l2"}), minimum_norm=True, access="label"),
    "mifgsm": Attack(mifgsm, frozenset({"linf", "l2"})),
    "noise": Attack(noise, frozenset({"linf", "l2"}), access="score"),
    "pgd": Attack(pgd, frozenset({"linf", "l2"})),
    "square": Attack(square, frozenset({"linf", "l2"}), access="score"),
    "superdeepfool": Attack(superdeepfool, frozenset({"l2"}), minimum_norm=True),
}
