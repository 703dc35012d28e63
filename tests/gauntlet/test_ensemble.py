"""The ensemble is made of attacks that run, and is as strong as the best of them."""

import pytest
import torch

from gauntlet import ensemble, referee
from gauntlet.errors import InvalidInput
from gauntlet.threat import Threat
from tests.gauntlet.conftest import labels_of

MEMBERS = [
    (name, params, Threat(norm, eps))
    for members, eps in ((ensemble.NEAREST, None), (ensemble.WITHIN, 0.1))
    for norm, named in members.items()
    for name, params in named
]


@pytest.mark.parametrize(("name", "params", "threat"), MEMBERS)
def test_every_member_can_run(name, params, threat):
    referee.check(name, threat, params, targeted=False)


def test_the_nearest_success_of_all_members_counts(convolutional, images, monkeypatch):
    members = (("superdeepfool", {}), ("fab", {"steps": 30}))
    monkeypatch.setitem(ensemble.NEAREST, "l2", members)
    y, threat = labels_of(convolutional, images), Threat("l2")
    alone = [referee.run(convolutional, name, images, y, threat, params=params) for name, params in members]
    together = ensemble.strongest(convolutional, images, y, threat)
    assert torch.equal(together.outcome.minimal["l2"], torch.minimum(*(found.minimal["l2"] for found in alone)))
    assert torch.equal(together.outcome.queries, alone[0].queries + alone[1].queries)
    assert set(together.attack) == {"superdeepfool", "fab"}


def test_there_is_no_ensemble_for_l0_within_eps(convolutional, images):
    with pytest.raises(InvalidInput, match="no ensemble for l0"):
        ensemble.strongest(convolutional, images, labels_of(convolutional, images), Threat("l0", 3.0))
