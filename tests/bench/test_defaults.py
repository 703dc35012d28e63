import pytest
import torch

from bench.attacks import defaults


@pytest.mark.parametrize(("eps", "went"), [(1e-6, torch.inf), (0.1, 0.1)])
def test_a_success_at_a_fixed_eps_went_exactly_so_far(task, eps, went):
    """Not 0.1 as float32 rounds it, which is more than 0.1."""
    found = defaults.sizes(task.model, "pgd", task.x, task.y, "linf", [eps], seed=0)
    assert found.tolist() == [went] * len(task.x)
