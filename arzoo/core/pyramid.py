"""Pyramids of continuous tokens: area means of one grid of vectors, coarse to fine, and back.

Scale-wise models (FlowAR, 2024, section 3; xAR, 2025, section 3.1, "next scale") draw all levels of a pyramid whose
finest one is what an ordinary grid tokenizer decodes.

Shapes: B samples, n positions of the grid, N of the pyramid, C channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.layout import Grid, Layout, Pyramid
from arzoo.core.tokens import Tokens


def over(grid: Grid, sides: Sequence[int] = ()) -> Pyramid:
    """The pyramid of square levels over a grid.

    Args:
        grid: A square picture, the finest level.
        sides: Sides of the levels, rising up to that of the grid; by default it is halved down to 1, as published.

    Raises:
        ArzooError: The grid is no square picture, or the sides do not rise to its own.
    """
    if grid.t != 1 or grid.h != grid.w:
        raise ArzooError(f"a pyramid of levels needs a square picture, got {grid}")
    if not sides:
        sides = [grid.h]
        while sides[0] > 1:
            sides = [(sides[0] + 1) // 2, *sides]
    rising = all(0 < small < large for small, large in itertools.pairwise(sides))
    if not rising or sides[-1] != grid.h:
        raise ArzooError(
            f"levels {list(sides)} must rise from at least 1 to {grid.h}, the side of the tokenizer's grid, for "
            f"example {[level.h for level in over(grid).levels]}"
        )
    return Pyramid(tuple(Grid(1, side, side) for side in sides))


def covers(canvas: Layout, tokens: Layout) -> bool:
    """Whether a canvas holds the tokens of a layout: it is that layout, or a pyramid with it as the finest level."""
    return canvas == tokens or (isinstance(canvas, Pyramid) and canvas.levels[-1] == tokens)


def picture(values: Tensor, layout: Pyramid, level: int) -> Tensor:
    """One level of a canvas (B, N, C) as a picture (B, C, h, w): FlowAR's `TokenSpec.canvas`, with the layout given."""
    grid = layout.levels[level]
    return values[:, layout.span(level)].transpose(1, 2).unflatten(2, (grid.h, grid.w))


def pyramid(latents: Tensor, layout: Pyramid) -> Tensor:
    """The tokens (B, N, C) of all levels: area means of latents (B, C, H, W)."""
    parts = [F.adaptive_avg_pool2d(latents, (grid.h, grid.w)).flatten(2) for grid in layout.levels]
    return torch.cat(parts, 2).transpose(1, 2)


def on_canvas(tokens: Tokens, canvas: Layout) -> Tokens:
    """Tokens of a grid on a canvas; a token of a coarse level is known where all below it are.

    Args:
        tokens: Values (B, n, ...) of which some are known.
        canvas: The grid's own layout, or a pyramid over it.
    """
    if not isinstance(canvas, Pyramid) or tokens.values.shape[1] == canvas.size:
        return tokens
    grid = canvas.levels[-1]
    values = tokens.values.transpose(1, 2).unflatten(2, (grid.h, grid.w))
    open_ = (~tokens.known).to(values.dtype)[:, None].unflatten(2, (grid.h, grid.w))
    return Tokens.of(pyramid(values, canvas), pyramid(open_, canvas)[..., 0] == 0, canvas)


def finest(tokens: Tokens, canvas: Layout) -> Tokens:
    """What a tokenizer of a grid decodes: the finest level of the tokens of a whole canvas, others as they are."""
    if not isinstance(canvas, Pyramid) or tokens.values.shape[1] != canvas.size:
        return tokens
    span = canvas.span(len(canvas.levels) - 1)
    values, known, given = (part[:, span] for part in (tokens.values, tokens.known, tokens.given))
    return Tokens(values, known, given, (tokens.length - span.start).clamp(min=0), canvas.levels[-1])


def so_far(tokens: Tokens, canvas: Layout) -> Tokens:
    """A canvas while levels are drawn: the finest one shows the last whole level, enlarged, until its own turn."""
    if not isinstance(canvas, Pyramid) or bool(tokens.known.all()):
        return tokens
    whole = [i for i in range(len(canvas.levels)) if bool(tokens.known[:, canvas.span(i)].all())]
    if not whole:
        return tokens
    grid, values = canvas.levels[-1], tokens.values.clone()
    large = F.interpolate(picture(values, canvas, whole[-1]), (grid.h, grid.w))
    values[:, canvas.span(len(canvas.levels) - 1)] = large.flatten(2).transpose(1, 2)
    return replace(tokens, values=values)
