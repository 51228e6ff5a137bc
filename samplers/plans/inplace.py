"""Plans whose features come from a query that stands at the position itself (readout `inplace`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.layout import Grid, Layout
from arzoo.core.plan import Plan
from arzoo.samplers.plans.about import plan
from arzoo.samplers.plans.orders import permutations

_XAR = "Beyond Next-Token: Next-X Prediction for Autoregressive Visual Generation, 2025"


def inplace(plan: Plan) -> Plan:
    """The same order for a backbone that reads in place (a mask or noise query stands at the target)."""
    return Plan(plan.layout, plan.rank, "inplace", stage=plan.stage, name=plan.name)


def cosine_ranks(orders: Tensor, steps: int, first: int = 0) -> Tensor:
    """Ranks of a masked schedule: after step k, floor(n cos(pi/2 (k+1)/steps)) positions stay masked (MAR, 2024, 3.3).

    Args:
        orders: (B, n) a permutation of the positions a sample; the first ones stay masked longest.
        steps: Number of steps, at most n.
        first: Rank of the first step.

    Returns:
        (B, n) ranks.
    """
    n = orders.shape[1]
    if not 1 <= steps <= n:
        raise ArzooError(f"a masked plan over {n} positions takes 1 to {n} steps, got {steps}")
    left, rank = n, torch.empty_like(orders)
    for k in range(steps):
        masked_after = max(1, min(left - 1, math.floor(n * math.cos(math.pi / 2 * (k + 1) / steps))))
        # Every remaining step needs at least one position.
        masked_after = 0 if k == steps - 1 else max(masked_after, steps - 1 - k)
        rank.scatter_(1, orders[:, masked_after:left], first + k)
        left = masked_after
    return rank


def _masked_trial(layout: Layout, extras: int, readouts: frozenset[str]) -> dict[str, Any]:
    return {"steps": min(8, layout.size)}


@plan(
    paper="Autoregressive Image Generation without Vector Quantization, 2024",
    section="3.3",
    readouts=("inplace",),
    orders="one",
    trial=_masked_trial,
)
def masked(layout: Layout, orders: Tensor, steps: int | None = None, given: Tensor | None = None) -> Plan:
    """Random positions in groups of cosine-scheduled size (MAR).

    Args:
        layout: Positions.
        orders: (B, N) a random permutation a sample, or (N,) one for all.
        steps: Number of steps, a quarter of the positions by default (64 for MAR's 256).
        given: (B, N) bool, positions with a value already. Samples may differ in how many they have: the smallest count
            is scheduled as given, surplus positions are drawn and discarded.

    Raises:
        ArzooError: An order is no permutation, there are not as many as rows of `given`, or the steps are out of range.
    """
    steps = max(layout.size // 4, 1) if steps is None else steps
    rows = permutations(orders, layout.size, "masked")
    if given is None:
        rank = cosine_ranks(rows, steps)
        return Plan(layout, rank if orders.dim() == 2 else rank[0], "inplace", name="masked")
    if len(rows) not in (1, len(given)):
        raise ArzooError(
            f"plan 'masked': {len(rows)} orders for {len(given)} samples; give one, or one a sample"
        )
    rows = rows.expand(len(given), -1)
    # A plan has a step; where all is given it draws nothing.
    count = min(int(given.sum(1).min()), layout.size - 1)
    # Given positions go last in the order, where the first known ones are.
    rows = rows.gather(1, torch.argsort(given.gather(1, rows).int(), dim=1, stable=True))
    open_ = rows[:, : layout.size - count]
    n = open_.shape[1]
    inner = cosine_ranks(torch.arange(n).expand(len(open_), -1), min(steps, n))
    rank = torch.full_like(rows, -1).scatter(1, open_, inner)
    return Plan(layout, rank, "inplace", name="masked")


def _in_parts(name: str, layout: Grid, count: int, part: Callable[[Tensor, int], Tensor]) -> Plan:
    """Frames of `count` x `count` parts, a part a step in raster order.

    Args:
        name: Of the plan.
        layout: Positions.
        count: Parts along each side.
        part: Which one a row (or column) belongs to, from its number and the number of all rows.
    """
    if count < 1 or layout.h % count or layout.w % count:
        raise ArzooError(f"plan {name!r}: {count} x {count} parts do not divide {layout}")
    frame, row, column = layout.coords().unbind(1)
    rank = (frame * count + part(row, layout.h)) * count + part(column, layout.w)
    return Plan(layout, rank, "inplace", name=name)


def _halves(layout: Layout, extras: int, readouts: frozenset[str]) -> dict[str, Any]:
    return {"regions": 2}


@plan(paper=_XAR, section="3.1", readouts=("inplace",), trial=_halves)
def cells(layout: Grid, regions: int) -> Plan:
    """Square cells in raster order (xAR): `regions` x `regions` of them."""
    return _in_parts("cells", layout, regions, lambda place, side: place // (side // regions))


def _every_other(layout: Layout, extras: int, readouts: frozenset[str]) -> dict[str, Any]:
    return {"stride": 2}


@plan(paper=_XAR, section="3.1", readouts=("inplace",), trial=_every_other)
def subsamples(layout: Grid, stride: int) -> Plan:
    """Interleaved, non-local subsets (xAR): every `stride`-th row and column, stride^2 steps."""
    return _in_parts("subsamples", layout, stride, lambda place, side: place % stride)


@plan(paper=_XAR, section="3.1", readouts=("inplace",))
def whole(layout: Layout) -> Plan:
    """Everything in one step (xAR's "whole image"): a diffusion model inside the same vocabulary."""
    return Plan(layout, torch.zeros(layout.size, dtype=torch.long), "inplace", name="whole")
