"""Orders of positions as arguments of plans: one for all samples, or one per sample."""

from __future__ import annotations

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError


def permutations(orders: Tensor, size: int, plan: str) -> Tensor:
    """Check orders and return them as rows.

    Args:
        orders: (N,) or (B, N).
        size: N.
        plan: Name of the plan, for messages.

    Returns:
        (1 or B, N).

    Raises:
        ArzooError: A row is not a permutation of 0..N-1.
    """
    rows = orders if orders.dim() == 2 else orders[None]
    if rows.shape[-1] != size or not torch.equal(rows.sort(1).values, torch.arange(size).expand_as(rows)):
        raise ArzooError(f"plan {plan!r}: every order must be a permutation of 0..{size - 1}")
    return rows
