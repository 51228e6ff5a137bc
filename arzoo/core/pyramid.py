"""Pyramids of tokens: for vectors area means of a grid, coarse to fine, and back.

Scale-wise models (FlowAR, 2024, section 3; xAR, 2025, section 3.1, "next scale") draw all levels of a pyramid whose
finest level an ordinary grid tokenizer decodes.

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


def square_levels(sides: Sequence[int]) -> Pyramid:
    """Pyramid of square levels with these sides."""
    return Pyramid(tuple(Grid(1, side, side) for side in sides))


def over(grid: Grid, sides: Sequence[int] = ()) -> Pyramid:
    """Pyramid of square levels over a grid.

    Args:
        grid: The finest level, square and of one frame.
        sides: Sides of the levels, rising to that of the grid; by default it is halved down to 1, as published.

    Raises:
        ArzooError: The grid is not a square picture, or the sides do not rise to its own.
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
    return square_levels(sides)


def covers(canvas: Layout, tokens: Layout) -> bool:
    """Whether a canvas contains the tokens of a layout: it is that layout, or a pyramid with it as finest level."""
    return canvas == tokens or (isinstance(canvas, Pyramid) and canvas.levels[-1] == tokens)


def picture(values: Tensor, layout: Pyramid, level: int) -> Tensor:
    """One level of a canvas (B, N, C) as a picture (B, C, h, w)."""
    grid = layout.levels[level]
    return values[:, layout.span(level)].transpose(1, 2).unflatten(2, (grid.h, grid.w))


def pyramid(latents: Tensor, layout: Pyramid) -> Tensor:
    """Tokens (B, N, C) of all levels: area means of latents (B, C, H, W)."""
    parts = [F.adaptive_avg_pool2d(latents, (grid.h, grid.w)).flatten(2) for grid in layout.levels]
    return torch.cat(parts, 2).transpose(1, 2)


def shares(region: Tensor, canvas: Pyramid) -> Tensor:
    """Share (..., N) of the cell of each position of all levels that is in a region (..., n) bool of the finest one."""
    grid = canvas.levels[-1]
    outside = (~region).reshape(-1, 1, grid.h, grid.w).float()
    return 1 - pyramid(outside, canvas)[..., 0].view(*region.shape[:-1], canvas.size)


def on_canvas(tokens: Tokens, canvas: Layout) -> Tokens:
    """Put the tokens of a grid on a canvas. A token of a coarse level is known if all tokens that it covers are.

    Args:
        tokens: Values (B, n, ...), some of them known.
        canvas: The layout of the grid, or a pyramid over it.
    """
    if not isinstance(canvas, Pyramid) or tokens.values.shape[1] == canvas.size:
        return tokens
    grid = canvas.levels[-1]
    values = tokens.values.transpose(1, 2).unflatten(2, (grid.h, grid.w))
    return Tokens.of(pyramid(values, canvas), shares(tokens.known, canvas) == 1, canvas)


def finest(tokens: Tokens, canvas: Layout) -> Tokens:
    """Tokens for a tokenizer of a grid: the finest level of a pyramid; other tokens are returned as they are."""
    if not isinstance(canvas, Pyramid) or tokens.values.shape[1] != canvas.size:
        return tokens
    span = canvas.span(len(canvas.levels) - 1)
    values, known, given = (part[:, span] for part in (tokens.values, tokens.known, tokens.given))
    return Tokens(values, known, given, (tokens.length - span.start).clamp(min=0), canvas.levels[-1])


def preview(tokens: Tokens, canvas: Layout) -> Tokens:
    """Preview of an unfinished pyramid: on its finest level, coarser tokens, enlarged, replace those that are missing.

    A position of the finest level is known in the result if any level has a token there.
    """
    if not isinstance(canvas, Pyramid) or tokens.values.shape[1] != canvas.size or bool(tokens.known.all()):
        return tokens
    values, known = tokens.values.clone(), tokens.known.clone()
    shown, covered = values[:, :0].sum(1)[..., None, None], values.new_zeros(len(values), 1, 1, 1)
    for level, grid in enumerate(canvas.levels):
        own = picture(tokens.known[..., None], canvas, level)
        shown = torch.where(own, picture(values, canvas, level), F.interpolate(shown, (grid.h, grid.w)))
        covered = torch.maximum(own.to(values.dtype), F.interpolate(covered, (grid.h, grid.w)))
    finest_level = canvas.span(len(canvas.levels) - 1)
    values[:, finest_level] = shown.flatten(2).transpose(1, 2)
    known[:, finest_level] = covered.flatten(1) > 0
    return replace(tokens, values=values, known=known)
