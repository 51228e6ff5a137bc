"""Contact sheets: many pictures in one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from arzoo.base.errors import ArzooError
from arzoo.base.files import atomic_file
from arzoo.base.paths import expanded

if TYPE_CHECKING:
    from torch import Tensor

_TITLE = 12
_PAPER = (232, 232, 232)


def contact_sheet(
    images: Tensor | np.ndarray,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    zoom: int = 1,
    pad: int = 2,
) -> Image.Image:
    """Lay pictures out in rows.

    Args:
        images: (n, H, W, 3) uint8.
        titles: A line of text above each picture; what does not fit is cut.
        columns: Pictures a row; about a square by default.
        zoom: Whole factor by which pictures are enlarged, without smoothing.
        pad: Pixels between pictures and around them.

    Returns:
        RGB, columns * (W * zoom + pad) + pad wide.

    Raises:
        ArzooError: There is no picture, the shape or type is another one, or titles are missing.
    """
    pictures = np.asarray(images)
    if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8 or not len(pictures):
        raise ArzooError(
            f"a contact sheet needs at least one picture, (n, H, W, 3) uint8; got {pictures.shape} "
            f"{pictures.dtype}. Of what a generator draws, these are its `images`; arzoo.data.transforms has to_uint8."
        )
    if titles and len(titles) != len(pictures):
        raise ArzooError(f"{len(titles)} titles for {len(pictures)} pictures; give one each")
    count, height, width = len(pictures), pictures.shape[1] * zoom, pictures.shape[2] * zoom
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows, top = math.ceil(count / columns), _TITLE if titles else 0
    cell = width + pad, height + top + pad
    sheet = Image.new("RGB", (columns * cell[0] + pad, rows * cell[1] + pad), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        x, y = pad + (i % columns) * cell[0], pad + (i // columns) * cell[1]
        if titles:
            draw.text((x, y), titles[i][: width // 6], fill=(40, 40, 40))
        tile = Image.fromarray(picture)
        sheet.paste(
            tile.resize((width, height), Image.Resampling.NEAREST) if zoom > 1 else tile, (x, y + top)
        )
    return sheet


def save_grid(
    images: Tensor | np.ndarray,
    path: str | Path,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    zoom: int = 1,
    pad: int = 2,
    overwrite: bool = True,
) -> Path:
    """Write a contact sheet as PNG, making its folder; a reader never sees half a file.

    Args:
        images: See `contact_sheet`, as for the other arguments.
        path: The file.
        titles: A line of text above each picture.
        columns: Pictures a row.
        zoom: Whole factor by which pictures are enlarged.
        pad: Pixels between pictures and around them.
        overwrite: Replace a file that exists.

    Returns:
        The path.

    Raises:
        ArzooError: As `contact_sheet`, or the file exists and `overwrite` is off.
    """
    sheet, path = contact_sheet(images, titles, columns, zoom, pad), Path(expanded(path))
    with atomic_file(path, overwrite) as partial:
        sheet.save(partial, "PNG")
    return path
