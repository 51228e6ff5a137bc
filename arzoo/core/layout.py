"""Layouts: the number and coordinates of the positions of a token canvas.

A layout contains neither tokens nor an order of generation; plans (`arzoo.core.plan`) rank its positions. Images are
clips of one frame, so every grid has a time axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError, nearest


@dataclass(frozen=True)
class Grid:
    """A regular grid, raster order (time slowest, width fastest).

    Attributes:
        t: Frames (1 for an image).
        h: Rows.
        w: Columns.
    """

    t: int
    h: int
    w: int

    def __post_init__(self) -> None:
        if min(self.t, self.h, self.w) < 1:
            raise ArzooError(
                f"a grid needs at least one frame, row and column, got {(self.t, self.h, self.w)}"
            )

    @property
    def size(self) -> int:
        """Number of positions."""
        return self.t * self.h * self.w

    @property
    def shape(self) -> tuple[int, int, int]:
        """(t, h, w)."""
        return self.t, self.h, self.w

    def coords(self) -> Tensor:
        """Coordinates (N, 3) of every position, as (frame, row, column)."""
        return torch.cartesian_prod(*(torch.arange(n) for n in self.shape)).view(-1, 3)


@dataclass(frozen=True)
class Ordered:
    """A sequence of positions without spatial meaning, coarse to fine (1D tokenizers).

    Attributes:
        n: Number of positions.
    """

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ArzooError(f"an ordered layout needs at least one position, got {self.n}")

    @property
    def size(self) -> int:
        """Number of positions."""
        return self.n

    def coords(self) -> Tensor:
        """Coordinates (N, 1)."""
        return torch.arange(self.n)[:, None]


@dataclass(frozen=True)
class Pyramid:
    """Several grids in sequence, coarse to fine (next-scale and pivot models).

    Attributes:
        levels: The grids; positions are numbered level by level.
    """

    levels: tuple[Grid, ...]

    def __post_init__(self) -> None:
        if not self.levels:
            raise ArzooError("a pyramid needs at least one level")

    @property
    def size(self) -> int:
        """Number of positions over all levels."""
        return sum(grid.size for grid in self.levels)

    def span(self, level: int) -> slice:
        """The positions of one level."""
        first = sum(grid.size for grid in self.levels[:level])
        return slice(first, first + self.levels[level].size)

    def level(self) -> Tensor:
        """Level (N,) of every position."""
        return torch.cat([torch.full((grid.size,), i) for i, grid in enumerate(self.levels)])

    def coords(self) -> Tensor:
        """Coordinates (N, 4) as (level, frame, row, column)."""
        return torch.cat([self.level()[:, None], torch.cat([grid.coords() for grid in self.levels])], 1)


Layout = Grid | Ordered | Pyramid


def layout_to_dict(layout: Layout) -> dict[str, Any]:
    """Convert a layout to plain data, for configuration files."""
    if isinstance(layout, Grid):
        return {"grid": list(layout.shape)}
    if isinstance(layout, Ordered):
        return {"ordered": layout.n}
    return {"pyramid": [list(grid.shape) for grid in layout.levels]}


def layout_from_dict(data: dict[str, Any]) -> Layout:
    """Inverse of `layout_to_dict`.

    Raises:
        ArzooError: The data names an unknown layout.
    """
    kind, value = next(iter(data.items()))
    if kind == "grid":
        return Grid(*value)
    if kind == "ordered":
        return Ordered(value)
    if kind == "pyramid":
        return Pyramid(tuple(Grid(*level) for level in value))
    raise ArzooError(f"unknown layout {kind!r}.{nearest(kind, ['grid', 'ordered', 'pyramid'])}")
