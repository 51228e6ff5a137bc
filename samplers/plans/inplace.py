"""Plans whose features come from a query at the position itself (readout `inplace`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError, UsageError
from arzoo.core.layout import Grid, Layout
from arzoo.core.plan import Plan
from arzoo.samplers.plans.about import plan
from arzoo.samplers.plans.orders import permutations

_XAR = "Beyond Next-Token: Next-X Prediction for Autoregressive Visual Generation, 2025"


def inplace(plan: Plan) -> Plan:
    """The same order with readout `inplace` (a mask or noise query at the target)."""
    return Plan(plan.layout, plan.rank, "inplace", stage=plan.stage, name=plan.name)


def cosine(share: float) -> float:
    """Share of masked positions after a share of the steps, cos(pi/2 r) ("MaskGIT", 2022, 3.3; MAR, 2024, 3.3)."""
    return math.cos(math.pi / 2 * share)


def arccosine(share: float) -> float:
    """Share of masked positions after a share of the steps, 2/pi acos(r) (code of TiTok, 2024)."""
    return math.acos(share) * 2 / math.pi


def falling_ranks(
    orders: Tensor, steps: int, first: int = 0, masked_share: Callable[[float], float] = cosine
) -> Tensor:
    """Ranks of a masked schedule: after step k, floor(n masked_share((k+1)/steps)) positions stay masked.

    Args:
        orders: (B, n) one permutation of the positions per sample; the first ones stay masked longest.
        steps: Number of steps, at most n.
        first: Rank of the first step.
        masked_share: Function of the share of steps done.

    Returns:
        (B, n) ranks.
    """
    n = orders.shape[1]
    if not 1 <= steps <= n:
        raise UsageError(f"a masked plan over {n} positions takes 1 to {n} steps, got {steps}")
    masked, rank = n, torch.empty_like(orders)
    for k in range(steps):
        masked_after = max(1, min(masked - 1, math.floor(n * masked_share((k + 1) / steps))))
        # Every remaining step needs at least one position.
        masked_after = 0 if k == steps - 1 else max(masked_after, steps - 1 - k)
        rank.scatter_(1, orders[:, masked_after:masked], first + k)
        masked = masked_after
    return rank


def ranks_around(
    rows: Tensor, steps: int, given: Tensor, masked_share: Callable[[float], float] = cosine
) -> Tensor:
    """Ranks (B, N) of a masked schedule around positions that have a value already, which are scheduled as given.

    Args:
        rows: (1 or B, N) orders, see `falling_ranks`.
        steps: Number of steps.
        given: (B, N) bool. The number of given positions may differ between samples: the smallest is scheduled as
            given, and surplus positions are drawn and discarded.
        masked_share: See `falling_ranks`.
    """
    rows = rows.expand(len(given), -1)
    size = rows.shape[1]
    # A plan needs at least one step; if everything is given, nothing is drawn in it.
    count = min(int(given.sum(1).min()), size - 1)
    # Given positions go last in the order, because the last positions are committed first.
    rows = rows.gather(1, torch.argsort(given.gather(1, rows).int(), dim=1, stable=True))
    open_ = rows[:, : size - count]
    n = open_.shape[1]
    inner = falling_ranks(torch.arange(n).expand(len(open_), -1), min(steps, n), masked_share=masked_share)
    return torch.full_like(rows, -1).scatter(1, open_, inner)


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
    """Random positions in groups whose sizes follow a cosine schedule (MAR).

    Args:
        layout: Positions.
        orders: (B, N) one random permutation per sample, or (N,) one for all.
        steps: Number of steps; by default a quarter of the positions (64 for MAR's 256).
        given: (B, N) bool, positions with a value already. Their number may differ between samples: the smallest is
            scheduled as given, and surplus positions are drawn and discarded.

    Raises:
        ArzooError: An order is not a permutation, the numbers of orders and of rows of `given` differ, or the number of
            steps is out of range.
    """
    steps = max(layout.size // 4, 1) if steps is None else steps
    rows = permutations(orders, layout.size, "masked")
    if given is None:
        rank = falling_ranks(rows, steps)
        return Plan(layout, rank if orders.dim() == 2 else rank[0], "inplace", name="masked")
    if len(rows) not in (1, len(given)):
        raise ArzooError(
            f"plan 'masked': {len(rows)} orders for {len(given)} samples; give one, or one per sample"
        )
    return Plan(layout, ranks_around(rows, steps, given), "inplace", name="masked")


@plan(
    paper="MaskGIT: Masked Generative Image Transformer, 2022",
    section="3.2",
    readouts=("inplace",),
    trial=_masked_trial,
)
def confident(layout: Layout, steps: int = 8, given: Tensor | None = None) -> Plan:
    """The tokens of which the model is most confident first, in groups that grow by an arc cosine (MaskGIT, TiTok).

    Every step draws all positions and commits the surest tokens, by logits with Gumbel noise of the temperature of the
    draw (`schedules.falling`). Which they are is decided while drawing, their number here. Models are trained as for
    `masked`.

    Args:
        layout: Positions.
        steps: Number of steps.
        given: (B, N) bool, positions with a value already, as in `masked`.

    Raises:
        UsageError: The number of steps is out of range.
    """
    rows = torch.arange(layout.size)[None]
    if given is None:
        rank = falling_ranks(rows, steps, masked_share=arccosine)[0]
    else:
        rank = ranks_around(rows, steps, given, arccosine)
    return Plan(layout, rank, "inplace", name="confident", confident=True)


def _in_parts(name: str, layout: Grid, count: int, part: Callable[[Tensor, int], Tensor]) -> Plan:
    """Plan of frames that consist of `count` x `count` parts, one part per step in raster order.

    Args:
        name: Name of the plan.
        layout: Positions.
        count: Number of parts along each side.
        part: Function of a row (or column) and the number of rows that returns the index of its part.
    """
    if count < 1 or layout.h % count or layout.w % count:
        raise UsageError(f"plan {name!r}: {layout} does not divide into {count} x {count} parts")
    frame, row, column = layout.coords().unbind(1)
    rank = (frame * count + part(row, layout.h)) * count + part(column, layout.w)
    return Plan(layout, rank, "inplace", name=name)


def _halves(layout: Layout, extras: int, readouts: frozenset[str]) -> dict[str, Any]:
    return {"regions": 2}


@plan(paper=_XAR, section="3.1", readouts=("inplace",), trial=_halves)
def cells(layout: Grid, regions: int) -> Plan:
    """Square cells in raster order (xAR): `regions` x `regions` of them."""
    return _in_parts("cells", layout, regions, lambda row, rows: row // (rows // regions))


def _stride_two(layout: Layout, extras: int, readouts: frozenset[str]) -> dict[str, Any]:
    return {"stride": 2}


@plan(paper=_XAR, section="3.1", readouts=("inplace",), trial=_stride_two)
def subsamples(layout: Grid, stride: int) -> Plan:
    """Interleaved subsets (xAR): every `stride`-th row and column, stride^2 steps."""
    return _in_parts("subsamples", layout, stride, lambda row, rows: row % stride)


@plan(paper=_XAR, section="3.1", readouts=("inplace",))
def whole(layout: Layout) -> Plan:
    """All positions in one step (xAR's "whole image"), which makes the generator a diffusion model."""
    return Plan(layout, torch.zeros(layout.size, dtype=torch.long), "inplace", name="whole")
