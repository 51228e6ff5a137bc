"""Contact sheets: many pictures in one image."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from arzoo.base.errors import ArzooError

if TYPE_CHECKING:
    from torch import Tensor

_TITLE = 12
_LINE = 16
"""Height of a line of a caption."""
_LEGIBLE = 96
"""Width in pixels to which smaller pictures are enlarged, so that they can be seen and a caption fits below them."""
_LINES = 3
"""Most lines on the sheet for one line of a caption."""
_ROW = 10
"""Most pictures in a row of a sheet that is ordered by titles."""
PAPER, _INK = (232, 232, 232), (40, 40, 40)


def without_accents(text: str) -> str:
    """Return a text without accents, which the font of pictures does not have."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def legible_zoom(width: int) -> int:
    """Return the factor by which pictures of a width are enlarged so that they can be seen and captions fit below."""
    return max(1, math.ceil(_LEGIBLE / width))


def by_title(titles: Sequence[str]) -> tuple[int, list[int]]:
    """Return the columns of a sheet, and the cell of each picture, in which pictures of one title lie together.

    They share a column, or a row where that makes the sheet wider than high, or several whole rows. Where all titles
    are the same, or all different, the sheet is about square and in the order of the pictures.
    """
    count, names = len(titles), {title: i for i, title in enumerate(dict.fromkeys(titles))}
    if len(names) in (1, count):
        return math.ceil(math.sqrt(count)), [*range(count)]
    seen = dict.fromkeys(names, 0)
    places = []
    for title in titles:
        places.append((names[title], seen[title]))
        seen[title] += 1
    most = max(seen.values())
    if most <= len(names) <= _ROW:
        return len(names), [number * len(names) + name for name, number in places]
    if len(names) <= _ROW:
        columns = min(most, _ROW)
        stride = math.ceil(most / columns) * columns
    else:
        columns, stride = most * max(1, _ROW // most), most
    return columns, [name * stride + number for name, number in places]


def wrapped(text: str, width: float, font: Any) -> list[str]:
    """Break a text into lines of at most `width` pixels, at spaces, slashes and dashes where possible.

    What does not fit in three lines is left out, with an ellipsis.
    """
    lines, line = list[str](), ""
    for piece in re.findall(r"\s*(?:[^\s/_-]+[/_-]*|[/_-]+)", text):
        if line and font.getlength(line + piece) > width:
            lines.append(line)
            line = piece.lstrip()
        else:
            line += piece
        while len(line) > 1 and font.getlength(line) > width:
            fits = max(1, next(n for n in range(len(line) - 1, -1, -1) if font.getlength(line[:n]) <= width))
            lines.append(line[:fits])
            line = line[fits:]
    lines.append(line)
    if len(lines) > _LINES:
        last = lines[_LINES - 1].rstrip()
        while last and font.getlength(f"{last}…") > width:
            last = last[:-1]
        lines[_LINES - 1 :] = [f"{last}…"]
    return lines


def framed(pictures: Sequence[Tensor]) -> Tensor:
    """Lay pictures (H, W, 3) uint8 of unlike sizes on cells of one size, (n, H', W', 3); equal ones do not change."""
    import torch

    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    cells = torch.tensor(PAPER, dtype=torch.uint8).repeat(len(pictures), height, width, 1)
    for cell, picture in zip(cells, pictures, strict=True):
        top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
        cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return cells


def contact_sheet(
    images: Tensor | np.ndarray,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    zoom: int | None = None,
    pad: int = 2,
    captions: Sequence[str] | None = None,
    cells: Sequence[int] | None = None,
) -> Image.Image:
    """Arrange pictures in rows.

    Args:
        images: (n, H, W, 3) uint8.
        titles: One line of text above each picture; text that does not fit is cut.
        columns: Pictures per row; by default the sheet is about square.
        zoom: Integer factor by which pictures are enlarged, without smoothing; by default small ones are, to at least
            96 pixels of width.
        pad: Pixels between and around pictures.
        captions: Text below each picture; lines that do not fit are broken.
        cells: Cell of each picture, counted along the rows, see `by_title`; by default one after another.

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
    zoom = zoom or legible_zoom(pictures.shape[2])
    count, height, width = len(pictures), pictures.shape[1] * zoom, pictures.shape[2] * zoom
    cells = range(count) if cells is None else cells
    columns = min(columns or math.ceil(math.sqrt(count)), max(cells) + 1)
    rows, top = max(cells) // columns + 1, _TITLE if titles else 0
    font = ImageFont.load_default(_LINE - 3)
    lines = [
        [line for part in without_accents(text).split("\n") for line in wrapped(part, width - 2, font)]
        for text in captions or ()
    ]
    cell = width + pad, height + top + _LINE * max(map(len, lines), default=0) + pad
    sheet = Image.new("RGB", (columns * cell[0] + pad, rows * cell[1] + pad), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (picture, place) in enumerate(zip(pictures, cells, strict=True)):
        x, y = pad + (place % columns) * cell[0], pad + (place // columns) * cell[1]
        if titles:
            draw.text((x, y), without_accents(titles[i])[: width // 6], fill=_INK)
        for line, text in enumerate(lines[i] if lines else ()):
            draw.text((x + 2, y + top + height + line * _LINE), text, fill=_INK, font=font)
        tile = Image.fromarray(picture)
        sheet.paste(
            tile.resize((width, height), Image.Resampling.NEAREST) if zoom > 1 else tile, (x, y + top)
        )
    return sheet
