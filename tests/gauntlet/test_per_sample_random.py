import torch

from gauntlet.per_sample_random import KeyedRandom


def test_a_number_depends_on_its_key_and_not_on_its_place():
    whole = KeyedRandom.span(7, 0, 100).uniform(3, (5,))
    assert torch.equal(KeyedRandom.span(7, 40, 10).uniform(3, (5,)), whole[40:50])
    rows = torch.tensor([90, 3, 17])
    assert torch.equal(KeyedRandom.span(7, 0, 100).at(rows).uniform(3, (5,)), whole[rows])


def test_seed_draw_and_index_all_matter():
    base = KeyedRandom.span(0, 0, 2).uniform(0, (64,))
    for other in (
        KeyedRandom.span(1, 0, 2).uniform(0, (64,)),
        KeyedRandom.span(0, 0, 2).uniform(1, (64,)),
        base.flip(0),
    ):
        assert not torch.isclose(base, other).any(dim=1).all()


def test_distribution():
    uniform = KeyedRandom.span(0, 0, 500).uniform(0, (400,))
    assert 0 < float(uniform.min()) < float(uniform.max()) < 1
    histogram = torch.histc(uniform, 20, 0, 1) / uniform.numel()
    assert float((histogram - 0.05).abs().max()) < 0.002
    normal = KeyedRandom.span(0, 0, 500).normal(0, (400,))
    assert abs(float(normal.mean())) < 0.01
    assert abs(float(normal.std()) - 1) < 0.01
    neighbours = torch.corrcoef(uniform[:50])
    assert float((neighbours - torch.eye(50)).abs().max()) < 0.25


def test_a_large_seed_is_taken():
    assert torch.isfinite(KeyedRandom.span(2**63 - 1, 0, 3).normal(0, (8,))).all()
