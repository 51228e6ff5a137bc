"""Contact sheets: many pictures in one image."""

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
    """Arrange pictures in rows.

    Args:
        images: (n, H, W, 3) uint8.
        titles: One line of text above each picture; text that does not fit is cut.
        columns: Pictures per row; by default the sheet is about square.
        zoom: Integer factor by which pictures are enlarged, without smoothing.
        pad: Pixels between and around pictures.

    Returns:
        RGB image of width columns * (W * zoom + pad) + pad.

    Raises:
        ArzooError: There is no picture, shape or type is another, or the number of titles differs.
    """
    pictures = np.asarray(images)
    if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8 or not len(pictures):
        raise ArzooError(
            f"a contact sheet needs at least one picture, (n, H, W, 3) uint8; got {pictures.shape} {pictures.dtype}. "
            "The result of a generator has them as `images`; for floats see arzoo.data.transforms.to_uint8."
        )
    if titles and len(titles) != len(pictures):
        raise ArzooError(f"{len(titles)} titles for {len(pictures)} pictures; give one per picture")
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
    """Write a contact sheet as PNG atomically, and create its folder if needed.

    Args:
        images: See `contact_sheet`, as for the other arguments.
        path: Path of the file.
        titles: One line of text above each picture.
        columns: Pictures per row.
        zoom: Integer factor by which pictures are enlarged.
        pad: Pixels between and around pictures.
        overwrite: Replace an existing file.

    Returns:
        The path.

    Raises:
        ArzooError: As `contact_sheet`, or the file exists and `overwrite` is off.
    """
    sheet, path = contact_sheet(images, titles, columns, zoom, pad), Path(expanded(path))
    with atomic_file(path, overwrite) as partial:
        sheet.save(partial, "PNG")
    return path
