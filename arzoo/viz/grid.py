"""Contact sheets: many pictures in one image."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from arzoo.base.errors import ArzooError

if TYPE_CHECKING:
    from torch import Tensor

_TITLE = 12
_LINE = 16
"""Height of a line of a caption."""
_LEGIBLE = 96
"""Width of a picture in pixels below which a caption would be cut."""
_PAPER, _INK = (232, 232, 232), (40, 40, 40)


def without_accents(text: str) -> str:
    """Return a text without accents, which the font of pictures does not have."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def legible_zoom(width: int) -> int:
    """Return the factor by which pictures of a width are enlarged so that captions fit below them."""
    return max(1, math.ceil(_LEGIBLE / width))


def contact_sheet(
    images: Tensor | np.ndarray,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    zoom: int = 1,
    pad: int = 2,
    captions: Sequence[str] | None = None,
) -> Image.Image:
    """Arrange pictures in rows.

    Args:
        images: (n, H, W, 3) uint8.
        titles: One line of text above each picture; text that does not fit is cut.
        columns: Pictures per row; by default the sheet is about square.
        zoom: Integer factor by which pictures are enlarged, without smoothing.
        pad: Pixels between and around pictures.
        captions: Lines of text below each picture, see `legible_zoom`.

    Returns:
        RGB image of width columns * (W * zoom + pad) + pad.

    Raises:
        ArzooError: There is no picture, shape or type is another, or the number of titles or captions differs.
    """
    pictures = np.asarray(images)
    if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8 or not len(pictures):
        raise ArzooError(
            f"a contact sheet needs at least one picture, (n, H, W, 3) uint8; got {pictures.shape} {pictures.dtype}. "
            "The result of a generator has them as `images`; for floats see arzoo.data.transforms.to_uint8."
        )
    for what, texts in (("titles", titles), ("captions", captions)):
        if texts and len(texts) != len(pictures):
            raise ArzooError(f"{len(texts)} {what} for {len(pictures)} pictures; give one per picture")
    count, height, width = len(pictures), pictures.shape[1] * zoom, pictures.shape[2] * zoom
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows, top = math.ceil(count / columns), _TITLE if titles else 0
    bottom = _LINE * max((text.count("\n") + 1 for text in captions or ()), default=0)
    cell = width + pad, height + top + bottom + pad
    sheet = Image.new("RGB", (columns * cell[0] + pad, rows * cell[1] + pad), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_LINE - 3)
    for i, picture in enumerate(pictures):
        x, y = pad + (i % columns) * cell[0], pad + (i // columns) * cell[1]
        if titles:
            draw.text((x, y), without_accents(titles[i])[: width // 6], fill=_INK)
        for line, text in enumerate(without_accents(captions[i]).split("\n") if captions else ()):
            draw.text((x + 2, y + top + height + line * _LINE), text, fill=_INK, font=font)
        tile = Image.fromarray(picture)
        sheet.paste(
            tile.resize((width, height), Image.Resampling.NEAREST) if zoom > 1 else tile, (x, y + top)
        )
    return sheet
