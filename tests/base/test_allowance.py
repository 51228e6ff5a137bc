"""New tensors are counted before they are allocated."""

import pytest
import torch
from torch import nn

from arzoo.base.allowance import Allowance, TooLarge


def test_what_fits_is_the_same_as_without():
    torch.manual_seed(0)
    with Allowance(12):
        limited = nn.Linear(3, 4)
    torch.manual_seed(0)
    assert torch.equal(limited.weight, nn.Linear(3, 4).weight)


@pytest.mark.parametrize("factory", [torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn])
def test_what_does_not_fit_is_not_allocated(factory):
    with pytest.raises(TooLarge), Allowance(100):
        factory(2**30, 2**20, dtype=torch.float64)


def test_all_tensors_count_together():
    with pytest.raises(TooLarge), Allowance(100):
        [torch.empty(2**20) for _ in range(20)]
