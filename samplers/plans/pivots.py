"""Masked orders inside every level of a pyramid, with one stage per level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError, UsageError
from arzoo.core import pyramid
from arzoo.core.layout import Grid, Layout, Pyramid
from arzoo.core.plan import Plan
from arzoo.samplers.plans.about import plan
from arzoo.samplers.plans.inplace import falling_ranks
from arzoo.samplers.plans.orders import permutations


def _few_steps(layout: Layout, extras: int, readouts: frozenset[str]) -> dict[str, Any]:
    if isinstance(layout, Grid):
        layout = _over(layout, ())
    return {"steps": [min(4, level.size) for level in getattr(layout, "levels", ())]}


def _over(grid: Grid, levels: Sequence[int]) -> Pyramid:
    """Pyramid over a grid; by default of pivots with half its side."""
    half = [(grid.h + 1) // 2] if grid.h > 1 else []
    return pyramid.over(grid, levels or [*half, grid.h])


def canvas(layout: Grid | Pyramid, levels: tuple[int, ...] = ()) -> Pyramid:
    """Layout that the plan orders, see `pivots`.

    Raises:
        ArzooError: These levels do not form a pyramid over the layout.
    """
    if isinstance(layout, Grid):
        return _over(layout, levels)
    if levels and tuple(levels) != tuple(grid.h for grid in layout.levels):
        raise ArzooError(f"plan 'pivots': levels {list(levels)} are not those of {layout}")
    return layout


@plan(
    paper="Hierarchical Masked Autoregressive Models with Low-Resolution Token Pivots, 2025",
    section="3.2",
    readouts=("inplace",),
    orders="levels",
    trial=_few_steps,
    canvas=canvas,
)
def pivots(
    layout: Grid | Pyramid, orders: Sequence[Tensor], steps: tuple[int, ...], levels: tuple[int, ...] = ()
) -> Plan:
    """Masked orders inside each level of a pyramid, with one stage per level (Hi-MAR).

    Args:
        layout: A pyramid, or a grid of vectors that becomes the finest level of one.
        orders: (B, n) permutations of each level, or one (n,) for all samples.
        steps: Number of steps of each level.
        levels: Sides of square levels over a grid; by default half its side, then its side.
    """
    layout = canvas(layout, levels)
    if not len(layout.levels) == len(orders) == len(steps):
        raise UsageError(
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
