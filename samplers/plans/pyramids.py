"""Plans over pyramids: level after level, coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core import pyramid
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid, Layout, Pyramid
from arzoo.core.plan import Plan
from arzoo.samplers.plans.about import Trial, plan
from arzoo.samplers.plans.in_place import cosine_ranks


def _readout(trial: Trial) -> dict[str, Any]:
    return {"readout": "inplace" if "inplace" in trial.readouts else "draft"}


def _order_a_level(trial: Trial) -> dict[str, Any]:
    levels = trial.layout.levels if isinstance(trial.layout, Pyramid) else ()
    return {
        "orders": [Draws([0]).permutation(level.size) for level in levels],
        "steps": [min(4, level.size) for level in levels],
    }


@plan(
    "VAR, 2024, section 3; FlowAR, 2024, section 3",
    "draft",
    "inplace",
    layouts=(Pyramid, Grid),
    trial=_readout,
)
def scales(
    layout: Layout, readout: Literal["draft", "inplace"] = "draft", levels: tuple[int, ...] = ()
) -> Plan:
    """Level after level of a pyramid, coarse to fine (VAR, 2024, section 3; FlowAR, 2024, section 3).

    Args:
        layout: A pyramid, or a grid of vectors that becomes the finest level of one.
        readout: "inplace" for backbones that denoise the level itself (xAR's "next scale").
        levels: Sides of square levels over a grid; by default its side is halved down to 1.

    Raises:
        ArzooError: There is no pyramid of these levels over the layout.
    """
    if isinstance(layout, Grid):
        layout = pyramid.over(layout, levels)
    if not isinstance(layout, Pyramid):
        raise ArzooError(f"plan 'scales' needs a pyramid or grid layout, got {layout}")
    if levels and tuple(levels) != tuple(grid.h for grid in layout.levels):
        raise ArzooError(f"plan 'scales': levels {list(levels)} are not those of {layout}")
    return Plan(layout, layout.level(), readout, name="scales")


@plan("Hi-MAR, 2025, section 3.2", "inplace", layouts=(Pyramid,), orders="a level", trial=_order_a_level)
def pivots(layout: Layout, orders: Sequence[Tensor], steps: tuple[int, ...]) -> Plan:
    """Masked inside each level of a pyramid, one stage a level (Hi-MAR: hierarchical masked autoregression, 2025, 3.2).

    Args:
        layout: A pyramid.
        orders: A (B, n) permutation a level.
        steps: Number of steps of each level.
    """
    if not isinstance(layout, Pyramid) or not len(layout.levels) == len(orders) == len(steps):
        raise ArzooError(
            f"plan 'pivots' needs a pyramid with an order and a step count a level, got {layout}, steps {list(steps)}"
        )
    ranks, first = [], 0
    for order, count in zip(orders, steps, strict=True):
        ranks.append(cosine_ranks(order, count, first))
        first += count
    stage = tuple(level for level, count in enumerate(steps) for _ in range(count))
    return Plan(layout, torch.cat(ranks, 1), "inplace", stage=stage, name="pivots")
