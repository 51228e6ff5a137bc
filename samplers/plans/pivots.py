"""Masked orders inside every level of a pyramid, with one stage per level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.layout import Layout, Pyramid
from arzoo.core.plan import Plan
from arzoo.samplers.plans.about import plan
from arzoo.samplers.plans.inplace import falling_ranks
from arzoo.samplers.plans.orders import permutations


def _few_steps(layout: Layout, extras: int, readouts: frozenset[str]) -> dict[str, Any]:
    return {"steps": [min(4, level.size) for level in getattr(layout, "levels", ())]}


@plan(
    paper="Hierarchical Masked Autoregressive Models with Low-Resolution Token Pivots, 2025",
    section="3.2",
    readouts=("inplace",),
    orders="levels",
    trial=_few_steps,
)
def pivots(layout: Pyramid, orders: Sequence[Tensor], steps: tuple[int, ...]) -> Plan:
    """Masked orders inside each level of a pyramid, with one stage per level (Hi-MAR).

    Args:
        layout: A pyramid.
        orders: (B, n) permutations of each level, or one (n,) for all samples.
        steps: Number of steps of each level.
    """
    if not len(layout.levels) == len(orders) == len(steps):
        raise ArzooError(
            f"plan 'pivots' needs one order and one number of steps per level of the pyramid, got {layout}, "
            f"{len(orders)} orders, steps {list(steps)}"
        )
    ranks, first = [], 0
    rows = [permutations(o, level.size, "pivots") for o, level in zip(orders, layout.levels, strict=True)]
    for order, count in zip(rows, steps, strict=True):
        ranks.append(falling_ranks(order, count, first).expand(max(map(len, rows)), -1))
        first += count
    stage = tuple(level for level, count in enumerate(steps) for _ in range(count))
    return Plan(layout, torch.cat(ranks, 1), "inplace", stage=stage, name="pivots")
