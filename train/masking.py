"""Which tokens a masked model does not see in training ("MAR", 2024, section 4, as in its published code)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOWEST, DEVIATION = 0.7, 0.25


def masked_count(uniform: float, positions: int) -> int:
    """How many positions of every sample of a batch are masked.

    The ratio is normal with mean 1 and deviation 0.25, cut off below 0.7 and above 1.

    Args:
        uniform: A number in (0, 1) that decides.
        positions: Positions of a sample.
    """
    lowest = torch.special.ndtr(torch.tensor((LOWEST - 1) / DEVIATION, dtype=torch.float64))
    quantile = torch.special.ndtri(lowest + uniform * (0.5 - lowest))
    return min(math.ceil(positions * float(1 + DEVIATION * quantile)), positions)


def masked_first(orders: Tensor, count: int) -> Tensor:
    """Mask (B, N) of the first `count` positions of each order (B, N): those that generation reaches last."""
    mask = torch.zeros_like(orders, dtype=torch.bool)
    return mask.scatter(1, orders[:, :count], True)
