"""Which tokens a masked model does not see in training ("MAR", 2024, section 4, as in its published code)."""

from __future__ import annotations

import math

import torch

from arzoo.train.settings import LOWEST


def masked_count(uniform: float, positions: int, lowest: float = LOWEST) -> int:
    """How many positions of every sample of a batch are masked.

    The ratio is normal with mean 1, cut off below `lowest` and above 1, and as wide as that: the published deviation
    is 0.25 for 0.7.

    Args:
        uniform: A number in (0, 1) that decides.
        positions: Positions of a sample.
        lowest: Least share that is masked, in [0, 1).
    """
    deviation = 0.25 * (1 - lowest) / (1 - LOWEST)
    below = torch.special.ndtr(torch.tensor(-(1 - LOWEST) / 0.25, dtype=torch.float64))
    quantile = torch.special.ndtri(below + uniform * (0.5 - below))
    return min(max(math.ceil(positions * float(1 + deviation * quantile)), 1), positions)
