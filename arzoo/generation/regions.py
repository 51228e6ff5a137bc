"""Regions of a picture to keep, for inpainting and outpainting."""

from __future__ import annotations

import torch
from torch import Tensor

from arzoo.base.errors import UsageError, nearest
from arzoo.core.clips import as_clips
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.data.transforms import to_model
from arzoo.generation.generator import Generator

NAMES = ("top", "bottom", "left", "right", "border", "center")


def kept_pixels(keep: str, height: int, width: int) -> Tensor:
    """Return the pixels to keep, (H, W) bool.

    Args:
        keep: One of `NAMES` (halves; an outer ring of a quarter; the middle half), or "x,y,w,h" in pixels.
        height: H.
        width: W.

    Raises:
        UsageError: The region has another name, or the rectangle does not lie in the picture.
    """
    mask = torch.zeros(height, width, dtype=torch.bool)
    top, left = height // 4, width // 4
    boxes = {
        "top": (0, 0, width, height // 2),
        "bottom": (0, height // 2, width, height - height // 2),
        "left": (0, 0, width // 2, height),
        "right": (width // 2, 0, width - width // 2, height),
        "border": (left, top, width - 2 * left, height - 2 * top),
        "center": (left, top, width - 2 * left, height - 2 * top),
    }
    if keep in boxes:
        x, y, w, h = boxes[keep]
    else:
        try:
            x, y, w, h = (int(part) for part in keep.split(","))
        except ValueError:
            raise UsageError(
                f"unknown region {keep!r}.{nearest(keep, NAMES)} Or give a rectangle in pixels as x,y,w,h."
            ) from None
        if not (0 <= x and 0 <= y and w > 0 and h > 0 and x + w <= width and y + h <= height):
            raise UsageError(
                f"--keep {keep} does not lie in the picture, which is {width} wide and {height} high"
            )
    mask[y : y + h, x : x + w] = True
    return ~mask if keep == "border" else mask


def kept_tokens(pixels: Tensor, grid: Grid) -> Tensor:
    """Return the positions whose cells are kept completely, (N,) bool.

    Args:
        pixels: (H, W) bool.
        grid: Layout of one frame, whose cells divide the picture.

    Raises:
        UsageError: No position is kept, or all are.
    """
    height, width = pixels.shape
    cells = pixels.view(grid.h, height // grid.h, grid.w, width // grid.w)
    kept = cells.all(3).all(1).flatten()
    if not kept.any() or kept.all():
        what = "nothing of the picture" if not kept.any() else "the whole picture"
        raise UsageError(
            f"--keep keeps {what}: tokens cover {height // grid.h} x {width // grid.w} pixels each"
        )
    return kept


def region_of(model: Generator, keep: str) -> Tensor:
    """Return the tokens of a model that a region of the picture keeps, (N,) bool.

    Args:
        model: The generator that draws the other tokens.
        keep: The region, see `kept_pixels`.

    Raises:
        UsageError: The tokens of the model are not a grid of one frame, or the region is invalid.
    """
    layout = model.tokenizer.spec.layout
    if not isinstance(layout, Grid) or layout.t != 1:
        raise UsageError(f"a picture to complete needs tokens on a grid of one frame, the model has {layout}")
    return kept_tokens(kept_pixels(keep, *model.tokenizer.image_size), layout)


@torch.inference_mode()
def kept_canvas(model: Generator, picture: Tensor, region: Tensor, count: int) -> Tokens:
    """Encode a picture (H, W, 3) uint8 to `count` equal rows of tokens, of which a region (N,) is given."""
    values = model.tokenizer.encode(as_clips(to_model(picture[None]).to(model.device))).values
    rows = region.to(values.device).expand(count, -1)
    return Tokens.of(values.expand(count, *values.shape[1:]), rows)
