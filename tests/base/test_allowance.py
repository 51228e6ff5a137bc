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


@pytest.mark.parametrize(
    "table",
    [
        lambda: torch.arange(2**60),
        lambda: torch.arange(end=2**60),
        lambda: torch.arange(1, end=2**60),
        lambda: torch.arange(1, 2**60, 2, dtype=torch.float32),
        lambda: torch.arange(0.0, -1.0, -(2.0**-60)),
        lambda: torch.outer(torch.zeros(1).expand(2**30), torch.zeros(1).expand(2**30)),
        lambda: torch.outer(torch.zeros(1).expand(2**30), vec2=torch.zeros(1).expand(2**30)),
    ],
)
def test_tables_are_counted(table):
    with pytest.raises(TooLarge), Allowance(100):
        table()


def test_small_tables_fit():
    with Allowance(0):
        torch.outer(torch.arange(1000), torch.arange(3, 9, 2))
        assert len(torch.arange(2.0, 5)) == 3


def test_all_tensors_count_together():
    with pytest.raises(TooLarge), Allowance(100):
        [torch.empty(2**20) for _ in range(20)]
