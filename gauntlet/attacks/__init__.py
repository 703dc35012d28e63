"""The registry of attacks. Each attack is one function in a file of its own, usually from one paper.

To register an attack, add it to ``ATTACKS`` below. The signature of an attack is its interface: its keyword parameters,
with their bounds, become the JSON schema of the service.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, create_model
from torch import Tensor

from gauntlet.attacks.alma import alma
from gauntlet.attacks.apgd import apgd, apgd_t
from gauntlet.attacks.cw import cw
from gauntlet.attacks.cw_linf import cw_linf
from gauntlet.attacks.ddn import ddn
from gauntlet.attacks.dead_gradient_search import dead_gradient_search
from gauntlet.attacks.fab import fab
from gauntlet.attacks.fgsm import fgsm
from gauntlet.attacks.fmn import fmn
from gauntlet.attacks.gaussian import gaussian
from gauntlet.attacks.hopskipjump import hopskipjump
from gauntlet.attacks.mifgsm import mifgsm
from gauntlet.attacks.noise import noise
from gauntlet.attacks.pgd import pgd
from gauntlet.attacks.sigma_zero import sigma_zero
from gauntlet.attacks.square import square
from gauntlet.attacks.strongest import AGAIN, AIMED, NEAREST, SUMMARY, WITHIN, Member
from gauntlet.attacks.superdeepfool import superdeepfool
from gauntlet.norms import Norm
from gauntlet.threat import Threat

Access = Literal["gradient", "score", "label"]
_SET_BY_REFEREE = {"generator", "targeted"}  # keyword parameters that a user does not set


@dataclass(frozen=True)
class Attack:
    """An attack function, with the properties that the referee and a user need to know."""

    run: Callable[..., Tensor]
    norms: frozenset[Norm]
    minimum_norm: bool = False  # looks for the smallest success instead of any success within eps
    access: Access = "gradient"  # what it needs from the model: gradients, logits only, or labels only

    def __post_init__(self) -> None:
        if not hasattr(self.run, "passes"):
            raise TypeError(f"{self.run.__name__} does not declare its cost: see gauntlet.attacks.base.costs")

    @cached_property
    def params(self) -> type[BaseModel]:
        """The parameters as a pydantic model, read from the function's signature."""
        signature = inspect.signature(self.run)
        fields: dict[str, Any] = {
            name: (parameter.annotation, parameter.default)
            for name, parameter in signature.parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and name not in _SET_BY_REFEREE
        }
        name = f"{self.run.__name__.title()}Params"
        return create_model(name, __config__=ConfigDict(extra="forbid", frozen=True), **fields)

    @property
    def settings(self) -> dict[str, Any]:
        """The default parameters, in the form in which a report records them."""
        return self.params().model_dump(mode="json")

    @property
    def targeted(self) -> bool:
        """Whether the attack can aim at a chosen class."""
        return "targeted" in inspect.signature(self.run).parameters

    @property
    def summary(self) -> str:
        """What the attack does, and the paper it comes from: the docstring of its function."""
        return inspect.getdoc(self.run) or ""

    def prepared(self, params: BaseModel, threat: Threat, targeted: bool) -> Callable[..., Tensor]:
        """Return the attack as ``(model, x, y, *, generator) -> images``, with its parameters and threat bound.

        Images whose gradient is zero get a second search that starts far away (``dead_gradient_search``). Attacks that
        use no gradient, and attacks of a single gradient step, run without it.
        """
        run = partial(self.run, threat=threat, **({"targeted": True} if targeted else {}), **dict(params))
        if self.access != "gradient" or self.gradient_steps(params) <= 1:
            return run
        return partial(dead_gradient_search, run, threat=threat, targeted=targeted, minimum_norm=self.minimum_norm)

    def sweeps(self, norm: Norm) -> bool:  # noqa: ARG002
        """Whether one run without an eps gives the results at every eps in this norm."""
        return self.minimum_norm

    def gradient_steps(self, params: BaseModel) -> int:
        """Return the cost in model evaluations per image, as the attack declares it (``base.costs``)."""
        passes: int = self.run.passes(params)  # type: ignore[attr-defined]
        return passes


class _NoParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Ensemble:
    """A sequence of attacks whose best result per image counts. It has the interface of ``Attack``."""

    summary: str
    within: Mapping[Norm, tuple[Member, ...]]  # at a fixed eps
    aimed: Mapping[Norm, tuple[Member, ...]]  # at a fixed eps, at a chosen class
    nearest: Mapping[Norm, tuple[Member, ...]]  # without an eps: for the smallest success
    last: Member  # at a fixed eps, finally on each image that was almost broken, in a batch of its own
    minimum_norm = True
    access: ClassVar[Access] = "gradient"
    params = _NoParams
    targeted = True

    @property
    def norms(self) -> frozenset[Norm]:
        return frozenset(self.nearest)

    @property
    def settings(self) -> dict[str, Any]:
        """The member attacks with all their parameters, in the form in which a report records them."""
        kinds = {"within eps": self.within, "within eps, to a class": self.aimed, "nearest": self.nearest}
        again = {f"{norm}, within eps, alone where near": _settings((self.last,)) for norm in self.within}
        return again | {
            f"{norm}, {kind}": _settings(members) for kind, table in kinds.items() for norm, members in table.items()
        }

    def members(self, threat: Threat, targeted: bool) -> tuple[Member, ...]:
        """Return the member attacks for this threat, in the order in which they run."""
        fixed = self.aimed if targeted else self.within
        return (fixed if threat.eps is not None and threat.norm in fixed else self.nearest)[threat.norm]

    def again(self, threat: Threat) -> Member | None:
        """Return the attack that retries almost broken images one by one; None if the members are ``nearest``."""
        return self.last if threat.eps is not None and threat.norm in self.within else None

    def sweeps(self, norm: Norm) -> bool:
        return norm not in self.within

    def gradient_steps(self, params: BaseModel) -> int:  # noqa: ARG002
        """Return the cost of the most expensive sequence, for an image that no member breaks."""
        fixed = [(*members, self.last) for table in (self.within, self.aimed) for members in table.values()]
        return max(sum(price(name, chosen) for name, chosen in members) for members in (*fixed, *self.nearest.values()))


def _settings(members: tuple[Member, ...]) -> dict[str, Any]:
    return {name: ATTACKS[name].params.model_validate(params).model_dump(mode="json") for name, params in members}


ATTACKS: dict[str, Attack | Ensemble] = {
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
    "sigma-zero": Attack(sigma_zero, frozenset({"l0"}), minimum_norm=True),
    "square": Attack(square, frozenset({"linf", "l2"}), access="score"),
    "strongest": Ensemble(SUMMARY, WITHIN, AIMED, NEAREST, AGAIN),
    "superdeepfool": Attack(superdeepfool, frozenset({"l2"}), minimum_norm=True),
}


def price(attack: str, params: Mapping[str, Any]) -> int:
    """Return the cost in model evaluations per image. Raises ValidationError for parameters that the attack rejects."""
    entry = ATTACKS[attack]
    return entry.gradient_steps(entry.params.model_validate(dict(params)))
