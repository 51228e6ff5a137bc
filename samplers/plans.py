"""Plans of all methods: each fills in ranks, sources and extra inputs of `arzoo.core.plan.Plan`, a few lines a method.

Every function is registered under its name as a "plan"; the first argument is the layout.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, Literal, get_type_hints

import torch
from torch import Tensor

from arzoo.base import registry
from arzoo.base.config import checked
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.base.registry import register
from arzoo.core import pyramid
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid, Layout, Pyramid
from arzoo.core.plan import COND, NONE, Plan

ORDER = -1
"""Step of the draws that decide a random order: before those of the first step."""


_CALLERS = ("layout", "orders", "given")
"""Arguments of plans that come from the caller, not from settings."""


def _grid(layout: Layout, name: str) -> Grid:
    if not isinstance(layout, Grid):
        raise ArzooError(
            f"plan {name!r} needs a grid layout, got {layout}. Plans for any layout: raster, masked, ordered."
        )
    return layout


def raster(layout: Layout) -> Plan:
    """One token after another in raster order (LlamaGen, 2024, section 2.2); N steps."""
    index = torch.arange(layout.size)
    return Plan(layout, index, "shifted", (index - 1)[:, None], name="raster")


def next_neighbor(layout: Layout) -> Plan:
    """All tokens at the same Manhattan distance from the first one.

    "Neighboring Autoregressive Modeling for Efficient Visual Generation" (NAR), 2025, section 3.2. t + h + w - 2
    steps: 2n - 1 for an n x n image. One readout head an axis that is longer than 1, in the order width, height,
    time; a position averages the heads of its decoded neighbours.
    """
    grid = _grid(layout, "next_neighbor")
    coords, index = grid.coords(), torch.arange(grid.size)
    columns = [
        torch.where(coords[:, axis] > 0, index - stride, NONE)
        for axis, stride in ((2, 1), (1, grid.w), (0, grid.h * grid.w))
        if grid.shape[axis] > 1
    ]
    sources = torch.stack(columns or [torch.full((grid.size,), NONE)], 1)
    sources[0] = COND
    return Plan(grid, coords.sum(1), "shifted", sources, name="next_neighbor")


def parallel(layout: Layout, regions: int = 2) -> Plan:
    """One token of every region at a time (PAR: Parallelized Autoregressive Visual Generation, 2024, section 3.2).

    The first token of each of the `regions` x `regions` regions is drawn alone; then the same place of all regions in
    one step. The switch feeds regions^2 - 1 learned transition inputs beside the last single token.

    Raises:
        ArzooError: The grid is not a square image that splits into the regions.
    """
    grid = _grid(layout, "parallel")
    n, side = regions * regions, grid.h
    if grid.t != 1 or grid.h != grid.w or side % regions or regions < 2 or side == regions:
        raise ArzooError(
            f"plan 'parallel' with {regions} x {regions} regions needs a larger square grid that they "
            f"divide, got {grid}"
        )
    cell = side // regions
    # Sequence order: place inside the region first, then the region.
    sequence = torch.arange(side * side).view(regions, cell, regions, cell).permute(1, 3, 0, 2).reshape(-1)
    index = torch.arange(side * side)
    rank = torch.empty_like(sequence)
    rank[sequence] = torch.where(index < n, index, n + (index - n) // n)
    sources = torch.full((side * side, 1), COND)
    sources[sequence[1:n], 0] = sequence[: n - 1]
    sources[sequence[n], 0] = sequence[n - 1]
    sources[sequence[n + 1 : 2 * n], 0] = side * side + torch.arange(n - 1)
    sources[sequence[2 * n :], 0] = sequence[n:-n]
    return Plan(grid, rank, "shifted", sources, torch.full((n - 1,), n - 1), name="parallel")


def next_block(layout: Layout, size: int, hybrid: bool = False) -> Plan:
    """A block (row, frame, tile of `size` consecutive tokens) a step (NBP: Next Block Prediction, 2025, section 3).

    Args:
        layout: Positions; `size` divides their number.
        size: Tokens a block.
        hybrid: The first block is drawn token by token and switches over through size - 1 learned inputs; otherwise
            block 0 has no source and must be given (frame prediction).
    """
    if not 0 < size <= layout.size or layout.size % size:
        raise ArzooError(
            f"plan 'next_block': block size {size} must divide the {layout.size} positions of the layout"
        )
    index = torch.arange(layout.size)
    if not hybrid:
        sources = torch.where(index < size, NONE, index - size)[:, None]
        return Plan(layout, index // size, "shifted", sources, name="next_block")
    rank = torch.where(index < size, index, size + (index - size) // size)
    sources = torch.where(index < size, index - 1, index - size)
    if size > 1 and layout.size > size:
        sources[size] = size - 1
        sources[size + 1 : 2 * size] = layout.size + torch.arange(size - 1)
    extra_rank = torch.full((size - 1,), size - 1)
    return Plan(layout, rank, "shifted", sources[:, None], extra_rank, name="next_block")


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


def masked(layout: Layout, orders: Tensor, steps: int | None = None, given: Tensor | None = None) -> Plan:
    """Random positions in groups of cosine-scheduled size (MAR, 2024, section 3.3).

    Args:
        layout: Positions.
        orders: (B, N) a random permutation a sample.
        steps: Number of steps, a quarter of the positions by default (64 for MAR's 256).
        given: (B, N) bool, positions with a value already. Samples may differ in how many they have: the smallest count
            is scheduled as given, surplus positions are drawn and discarded.
    """
    steps = max(layout.size // 4, 1) if steps is None else steps
    if given is None:
        return Plan(layout, cosine_ranks(orders, steps), "inplace", name="masked")
    count = int(given.sum(1).min())
    # Given positions go last in the order, where the first known ones are.
    orders = orders.gather(1, torch.argsort(given.gather(1, orders).int(), dim=1, stable=True))
    open_ = orders[:, : orders.shape[1] - count]
    n = open_.shape[1]
    inner = cosine_ranks(torch.arange(n).expand(len(open_), -1), min(steps, n))
    rank = torch.full_like(orders, -1).scatter(1, open_, inner)
    return Plan(layout, rank, "inplace", name="masked")


def cells(layout: Layout, regions: int) -> Plan:
    """Square cells in raster order (xAR: next-X prediction, 2025, section 3.1): `regions` x `regions` of them."""
    grid = _grid(layout, "cells")
    if regions < 1 or grid.h % regions or grid.w % regions:
        raise ArzooError(f"plan 'cells': {regions} x {regions} cells do not divide {grid}")
    coords = grid.coords()
    row, column = coords[:, 1] // (grid.h // regions), coords[:, 2] // (grid.w // regions)
    return Plan(grid, (coords[:, 0] * regions + row) * regions + column, "inplace", name="cells")


def subsamples(layout: Layout, stride: int) -> Plan:
    """Interleaved, non-local subsets (xAR, 2025, section 3.1): every `stride`-th row and column, stride^2 steps."""
    grid = _grid(layout, "subsamples")
    if stride < 1 or grid.h % stride or grid.w % stride:
        raise ArzooError(f"plan 'subsamples': stride {stride} does not divide {grid}")
    coords = grid.coords()
    inner = (coords[:, 1] % stride) * stride + coords[:, 2] % stride
    return Plan(grid, coords[:, 0] * stride * stride + inner, "inplace", name="subsamples")


def whole(layout: Layout) -> Plan:
    """Everything in one step (xAR's "whole image"): a diffusion model inside the same vocabulary."""
    return Plan(layout, torch.zeros(layout.size, dtype=torch.long), "inplace", name="whole")


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


def ordered(layout: Layout, group: int = 1) -> Plan:
    """A 1D sequence coarse to fine, `group` tokens a step; the features of the previous group predict the next one."""
    index = torch.arange(layout.size)
    if not 0 < group <= layout.size or layout.size % group:
        raise ArzooError(f"plan 'ordered': group size {group} must divide the {layout.size} positions")
    sources = torch.where(index < group, COND, index - group)[:, None]
    return Plan(layout, index // group, "shifted", sources, name="ordered")


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


def custom(layout: Layout, orders: Tensor) -> Plan:
    """Any order of single tokens, the same or one a sample; each is predicted by the token before it in the order.

    Args:
        layout: Positions.
        orders: (N,) or (B, N) a permutation of the positions.
    """
    flat = orders if orders.dim() == 2 else orders[None]
    if not torch.equal(flat.sort(1).values, torch.arange(layout.size).expand_as(flat)):
        raise ArzooError(f"plan 'custom': every order must be a permutation of 0..{layout.size - 1}")
    rank = torch.argsort(flat, 1)
    sources = torch.where(rank > 0, flat.gather(1, (rank - 1).clamp(min=0)), COND)[..., None]
    if orders.dim() == 1:
        rank, sources = rank[0], sources[0]
    return Plan(layout, rank, "shifted", sources, name="custom")


def inplace(plan: Plan) -> Plan:
    """The same order for a backbone that reads in place (a mask or noise query stands at the target)."""
    return Plan(plan.layout, plan.rank, "inplace", stage=plan.stage, name=plan.name)


def for_samples(
    name: str, layout: Layout, seeds: Sequence[int], given: Tensor | None = None, **options: Any
) -> Plan:
    """A registered plan for some samples.

    An order that the options leave open is random, one a sample and drawn from its seed alone, so that a sample does
    not depend on its batch.

    Args:
        name: A registered plan.
        layout: Positions.
        seeds: One a sample.
        given: (B, N) bool, positions with a value already, for plans that schedule the others.
        **options: Arguments of the plan; an order may be a list of positions.

    Raises:
        UnknownName: There is no such plan, or it takes no such option.
        ArzooError: An option has the wrong type or is out of range.
    """
    function = registry.lookup("plan", name)
    takes, hints = inspect.signature(function).parameters, get_type_hints(function)
    settable = [option for option in takes if option not in ("layout", "given")]
    for option, value in options.items():
        if option not in settable:
            if not settable:
                raise ArzooError(f"plan {name!r} has no options, got {option}={value}. Leave it out.")
            raise UnknownName(f"argument of plan {name!r}", option, settable)
        if option in hints and option not in _CALLERS:
            options[option] = checked(value, hints[option], f"{option} of plan {name}")
    if isinstance(options.get("orders"), list):
        options["orders"] = torch.tensor(options["orders"])
    if "orders" in takes and "orders" not in options:
        draws = Draws(seeds, ORDER)
        levels = layout.levels if name == "pivots" and isinstance(layout, Pyramid) else ()
        options["orders"] = [draws.permutation(grid.size) for grid in levels] or draws.permutation(
            layout.size
        )
    if "given" in takes and given is not None:
        options["given"] = given
    plan: Plan = registry.create("plan", name, layout=layout, **options)
    return plan


_PLANS = (
    raster,
    next_neighbor,
    parallel,
    next_block,
    masked,
    cells,
    subsamples,
    whole,
    scales,
    ordered,
    pivots,
    custom,
)
for _plan in _PLANS:
    register("plan", _plan.__name__)(_plan)

__all__ = [*(plan.__name__ for plan in _PLANS), "cosine_ranks", "for_samples", "inplace"]
