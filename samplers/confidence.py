"""The group of a step as the tokens that the model is most confident of ("MaskGIT", 2022, section 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def surest(scores: Tensor | None, known: Tensor, first: int, last: int) -> Tensor:
    """Positions (B, last - first), in ascending order, that get a value when `first` to `last` tokens of N have one.

    Known positions count as the surest of all, so a sample that knows more than `first` tokens gets fewer new ones.

    Args:
        scores: (B, N) how sure the model is of the token drawn at each position; None if all of the step are known.
        known: (B, N) bool, positions that have a value.
        first: Number of tokens with a value before the step, as the plan counts them.
        last: The same after the step.
    """
    scores = torch.zeros_like(known, dtype=torch.float64) if scores is None else scores.double()
    order = scores.masked_fill(known, math.inf).argsort(dim=1, descending=True, stable=True)
    return order[:, first:last].sort(1).values
