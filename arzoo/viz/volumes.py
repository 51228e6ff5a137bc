"""Pictures of volumes: slices, with boundaries and cells in color."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from arzoo.viz.grid import contact_sheet

SHOWN = 4
"""Slices on a sheet."""
SHARE = 0.55
"""Share of the colour of a cell, over the voxels."""


def middle(slices: int) -> range:
    """Return which slices of a volume a sheet shows: neighbors in the middle, through which cells go on."""
    first = max((slices - SHOWN) // 2, 0)
    return range(first, min(first + SHOWN, slices))


def slice_sheet(
    voxels_ZYX: Tensor,
    affinities_KZYX: Tensor | None = None,
    cells: dict[str, Tensor] | None = None,
    first: int = 0,
    shown: int = SHOWN,
) -> Image.Image:
    """Show slices of a volume, one a row: voxels, boundaries, and cells in color.

    Args:
        voxels_ZYX: uint8.
        affinities_KZYX: In [0, 1], along z, y and x first; boundaries are dark where the last two of the three are low.
        cells: (Z, Y, X) int64 number of the cell of each voxel, by title; 0 has no color.
        first: Number of the first slice, for the titles.
        shown: Most slices, evenly spaced.
    """
    rows = torch.linspace(0, len(voxels_ZYX) - 1, min(shown, len(voxels_ZYX))).round().long().unique()
    pictures, titles = list[Tensor](), list[str]()
    for row in rows.tolist():
        grey = voxels_ZYX[row][..., None].expand(-1, -1, 3)
        pictures.append(grey)
        titles.append(f"slice {first + row}")
        if affinities_KZYX is not None:
            inside = affinities_KZYX[1:3, row].mean(0)
            pictures.append((255 * inside).round().to(torch.uint8)[..., None].expand(-1, -1, 3))
            titles.append("boundaries")
        for title, numbers in (cells or {}).items():
            pictures.append(in_color(grey, numbers[row]))
            titles.append(title)
    return contact_sheet(torch.stack(pictures), titles, columns=len(pictures) // len(rows))


def in_color(grey_YX3: Tensor, cells_YX: Tensor) -> Tensor:
    """Lay a color for each cell over grey pixels; a cell has the same color in every slice."""
    color = colors(cells_YX.flatten().tolist()).view(*cells_YX.shape, 3)
    mixed = (1 - SHARE) * grey_YX3.float() + SHARE * color
    return torch.where(cells_YX[..., None] > 0, mixed, grey_YX3.float()).round().to(torch.uint8)


def colors(numbers: Sequence[int]) -> Tensor:
    """Return a bright color (n, 3) in [0, 255] for each number; near numbers have unlike ones."""
    # Hues at multiples of the golden ratio never come close to each other before many lie between.
    hue = torch.tensor(numbers, dtype=torch.float64) * 0.6180339887498949 % 1
    channels = [(hue + shift / 3) % 1 for shift in range(3)]
    return torch.stack([255 * (1.5 * (2 * (c - 0.5).abs()) - 0.25).clamp(0, 1) for c in channels], -1).float()
