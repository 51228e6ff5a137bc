"""Number of tokens hidden from a masked model in training ("MAR", 2024, section 4, as in its published code)."""

from __future__ import annotations

import math

import torch

from arzoo.train.settings import LOWEST


def masked_count(uniform: float, positions: int, lowest: float = LOWEST) -> int:
    """Return the number of masked positions of every sample of a batch.

    The ratio follows a normal distribution with mean 1, truncated to [`lowest`, 1]. Its deviation is proportional to
    1 - `lowest`; the published one is 0.25 for 0.7.

    Args:
        uniform: A random number in (0, 1).
        positions: Number of positions per sample.
        lowest: Smallest masked share, in [0, 1).
    """
    deviation = 0.25 * (1 - lowest) / (1 - LOWEST)
    below = torch.special.ndtr(torch.tensor(-(1 - LOWEST) / 0.25, dtype=torch.float64))
    quantile = torch.special.ndtri(below + uniform * (0.5 - below))
    return min(max(math.ceil(positions * float(1 + deviation * quantile)), 1), positions)


def cosine_count(uniform: float, positions: int) -> int:
    """Return the number of masked positions where the masked share is the cosine of a uniform angle (Hi-MAR's code).

    Args:
        uniform: A random number in (0, 1).
        positions: Number of positions per sample.
    """
    return min(max(math.ceil(positions * math.cos(math.pi / 2 * uniform)), 1), positions)
