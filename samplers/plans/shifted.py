"""Plans whose features come from tokens committed earlier (readout `shifted`)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import UsageError
from arzoo.core.layout import Grid, Layout
from arzoo.core.plan import COND, NONE, Plan
from arzoo.samplers.plans.about import OWN, plan
from arzoo.samplers.plans.orders import permutations


@plan(
    paper="Autoregressive Model Beats Diffusion: Llama for Scalable Image Generation, 2024",
    section="2.2",
    readouts=("shifted",),
)
def raster(layout: Layout) -> Plan:
    """One token per step in raster order (LlamaGen); N steps."""
    index = torch.arange(layout.size)
    return Plan(layout, index, "shifted", (index - 1)[:, None], name="raster")


@plan(
    paper="LongCat-Next: Lexicalizing Modalities as Discrete Tokens, 2026",
    section="3",
    readouts=("shifted",),
)
def newlines(layout: Grid) -> Plan:
    """Raster order with a learned input, a newline, after every row but the last (LongCat-Next); N steps.

    The newline predicts the first token of the next row, so rows are seen to end whatever their length.
    """
    raster_plan, width = raster(layout), layout.w
    assert raster_plan.sources is not None
    ends = torch.arange(1, layout.size // width) * width - 1
    sources = raster_plan.sources.clone()
    sources[ends + 1, 0] = layout.size + torch.arange(len(ends))
    return Plan(layout, raster_plan.rank, "shifted", sources, ends, name="newlines")


def _zipar_trial(layout: Layout, extras: int, readouts: frozenset[str]) -> dict[str, Any]:
    return {"distance": 1}  # not raster order, whatever the layout


@plan(
    paper="ZipAR: Parallel Autoregressive Image Generation through Spatial Locality, 2025",
    section="3.2",
    readouts=("shifted",),
    trial=_zipar_trial,
)
def zipar(layout: Grid, distance: int = 8) -> Plan:
    """A row of a raster model begins when the row above has `distance` tokens (ZipAR); approximate, without training.

    Token c of row r is drawn in step distance r + c, from what raster order would show it, as far as it is there. The
    last token of the row above, which would predict the first of a row, is not: its place is taken by a copy of the
    newest token of the row before that, until it is. A distance of the width or more is raster order. h rows of w
    tokens take distance (h - 1) + w steps.

    The published code also draws the first row alone, and lets tokens that are not there yet take part in attention,
    with keys and values of zero.

    Args:
        layout: Positions; the frames of a clip follow one another as rows do.
        distance: Tokens of the row above, at least 1.
    """
    if distance < 1:
        raise UsageError(
            f"plan 'zipar': a row begins after at least 1 token of the one above, got {distance=}"
        )
    width, index = layout.w, torch.arange(layout.size)
    row, column = index // width, index % width
    if distance >= width or layout.size == width:
        return replace(raster(layout), name="zipar")
    begins = torch.arange(1, layout.size // width)
    first, seen = begins * width, torch.where(begins > 1, 2 * distance, distance).clamp(max=width)
    copies = torch.stack([(begins - 2).clamp(min=0) * width + seen - 1, first - 1], 1)
    sources = index - 1
    sources[first] = layout.size + begins - 1
    rank = row * distance + column
    return Plan(layout, rank, "shifted", sources[:, None], begins * distance - 1, name="zipar", copies=copies)


@plan(
    paper="Neighboring Autoregressive Modeling for Efficient Visual Generation, 2025",
    section="3.2",
    readouts=("shifted",),
)
def next_neighbor(layout: Grid) -> Plan:
    """All tokens at the same Manhattan distance from the first one per step (NAR); t + h + w - 2 steps.

    An n x n image takes 2n - 1 steps. Every axis longer than 1 has a readout head, in the order width, height, time;
    the predictions of a position are averaged over the heads of its decoded neighbors.
    """
    coords, index = layout.coords(), torch.arange(layout.size)
    columns = [
        torch.where(coords[:, axis] > 0, index - stride, NONE)
        for axis, stride in ((2, 1), (1, layout.w), (0, layout.h * layout.w))
        if layout.shape[axis] > 1
    ]
    sources = torch.stack(columns or [torch.full((layout.size,), NONE)], 1)
    sources[0] = COND
    return Plan(layout, coords.sum(1), "shifted", sources, name="next_neighbor")


def _parallel_trial(layout: Layout, extras: int, readouts: frozenset[str]) -> dict[str, Any]:
    return {"regions": math.isqrt(extras + 1) if extras else 2}


@plan(
    paper="Parallelized Autoregressive Visual Generation, 2024",
    section="3.2",
    readouts=("shifted",),
    trial=_parallel_trial,
)
def parallel(layout: Grid, regions: int = 2) -> Plan:
    """One token of every region per step (PAR).

    The first token of each of the `regions` x `regions` regions of the first frame is drawn alone; after that, every
    step draws the same position of all regions, n = regions^2 tokens, one frame after the other: n + (N - n) / n steps
    of N tokens. At the transition, n - 1 learned inputs are fed with the last single token.

    Frames are cut in space only (section 5), so the last group of a frame predicts the first of the next, each token
    that of its own region; no frame after the first begins token by token, and none has a transition. So 5 x 16 x 16
    tokens take the 323 and 95 steps of the paper with 2 x 2 and 4 x 4 regions. Its code for clips is not published.

    Raises:
        UsageError: The frames are not squares that divide into the regions, or nothing is left after the first tokens.
    """
    n, side = regions * regions, layout.h
    if layout.h != layout.w or side % regions or regions < 2 or layout.size == n:
        raise UsageError(
            f"plan 'parallel' with {regions} x {regions} regions needs a larger square grid that divides into them, "
            f"got {layout}"
        )
    cell = side // regions
    # Sequence order: frames, then the position inside the region, then the region.
    index = torch.arange(layout.size)
    sequence = index.view(layout.t, regions, cell, regions, cell).permute(0, 2, 4, 1, 3).reshape(-1)
    rank = torch.empty_like(sequence)
    rank[sequence] = torch.where(index < n, index, n + (index - n) // n)
    sources = torch.full((layout.size, 1), COND)
    sources[sequence[1:n], 0] = sequence[: n - 1]
    sources[sequence[n], 0] = sequence[n - 1]
    sources[sequence[n + 1 : 2 * n], 0] = layout.size + torch.arange(n - 1)
    sources[sequence[2 * n :], 0] = sequence[n:-n]
    return Plan(layout, rank, "shifted", sources, torch.full((n - 1,), n - 1), name="parallel")


def _block_trial(layout: Layout, extras: int, readouts: frozenset[str]) -> dict[str, Any]:
    return {"size": extras + 1 if extras else getattr(layout, "w", 1), "hybrid": bool(extras)}


@plan(
    paper="Next Block Prediction: Video Generation via Semi-Autoregressive Modeling, 2025",
    section="3",
    readouts=("shifted",),
    trial=_block_trial,
)
def next_block(
    layout: Layout, size: int, hybrid: bool = False, height: int = 0, causal: bool = False
) -> Plan:
    """One block (row, frame, tile, or `size` consecutive tokens) per step (NBP).

    Args:
        layout: Positions; `size` divides their number.
        size: Tokens per block.
        hybrid: Draw the first block token by token, with size - 1 learned inputs at the transition; otherwise nothing
            predicts block 0, so its tokens must be given (frame prediction).
        height: Rows of a block that is a tile of a frame, size / height tokens wide; 0 for consecutive tokens.
        causal: A token does not see later ones of its own block; as published, all tokens of a block see each other.
    """
    if not 0 < size <= layout.size or layout.size % size:
        some = f": a row has {layout.w}, a frame {layout.h * layout.w}" if isinstance(layout, Grid) else ""
        raise UsageError(
            f"plan 'next_block': block size {size} must divide the {layout.size} positions of the layout{some}"
        )
    # Place in the sequence of blocks, and the position of each place.
    index = torch.arange(layout.size)
    sequence = _tiles(layout, size, height) if height else index
    rank, sources = torch.empty_like(index), torch.full_like(index, NONE)
    extras = size - 1 if hybrid else 0
    if hybrid:
        rank[sequence] = torch.where(index < size, index, size + (index - size) // size)
        sources[sequence[0]] = COND
        sources[sequence[1:size]] = sequence[: size - 1]
    else:
        rank[sequence] = index // size
    sources[sequence[size:]] = sequence[:-size]
    if extras and layout.size > size:
        sources[sequence[size]] = sequence[size - 1]
        sources[sequence[size + 1 : 2 * size]] = layout.size + torch.arange(extras)
    extra_rank = torch.full((extras,), size - 1)
    return Plan(layout, rank, "shifted", sources[:, None], extra_rank, name="next_block", causal=causal)


def _tiles(layout: Layout, size: int, height: int) -> Tensor:
    """Positions (N,) in the order of tiles of `height` rows, one after another in raster order, as are their tokens."""
    width = size // height
    if not isinstance(layout, Grid) or height < 1 or size % height or layout.h % height or layout.w % width:
        raise UsageError(
            f"plan 'next_block': blocks of {size} tokens in {height} rows must be tiles that divide the frames of a "
            f"grid, got {layout}"
        )
    shape = layout.t, layout.h // height, height, layout.w // width, width
    return torch.arange(layout.size).view(shape).transpose(2, 3).reshape(-1)


@plan(paper=OWN, readouts=("shifted",), orders="one")
def custom(layout: Layout, orders: Tensor) -> Plan:
    """Any order of single tokens, each predicted by the one before it in the order.

    Args:
        layout: Positions.
        orders: (N,) or (B, N) one permutation of the positions for all samples, or one per sample.
    """
    flat = permutations(orders, layout.size, "custom")
    rank = torch.argsort(flat, dim=1, stable=True)
    sources = torch.where(rank > 0, flat.gather(1, (rank - 1).clamp(min=0)), COND)[..., None]
    if orders.dim() == 1:
        rank, sources = rank[0], sources[0]
    return Plan(layout, rank, "shifted", sources, name="custom")
