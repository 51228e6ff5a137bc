"""Contact sheets: many pictures in one PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

_GAP, _TITLE = 2, 12
_PAPER = (232, 232, 232)


def contact_sheet(
    images: Tensor | np.ndarray,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    zoom: int = 1,
) -> Image.Image:
    """Lay pictures out in rows.

    Args:
        images: (n, H, W, 3) uint8.
        titles: A line of text above each picture; what does not fit is cut.
        columns: Pictures a row; about a square by default.
        zoom: Whole factor by which pictures are enlarged, without smoothing.
    """
    pictures = np.asarray(images)
    count, height, width = len(pictures), pictures.shape[1] * zoom, pictures.shape[2] * zoom
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows, top = math.ceil(count / columns), _TITLE if titles else 0
    cell = width + _GAP, height + top + _GAP
    sheet = Image.new("RGB", (columns * cell[0] + _GAP, rows * cell[1] + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        x, y = _GAP + (i % columns) * cell[0], _GAP + (i // columns) * cell[1]
        if titles:
            draw.text((x, y), titles[i][: width // 6], fill=(40, 40, 40))
        tile = Image.fromarray(picture)
        sheet.paste(
            tile.resize((width, height), Image.Resampling.NEAREST) if zoom > 1 else tile, (x, y + top)
        )
    return sheet
