"""Pictures ranked by their number of tokens: what an adaptive tokenizer finds simple, and what complex."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from arzoo.base.errors import ArzooError
from arzoo.viz.grid import contact_sheet, legible_zoom

if TYPE_CHECKING:
    from torch import Tensor

MOST = 64


def evenly_ranked(counts: Tensor | np.ndarray, most: int = MOST) -> list[int]:
    """Return the rows of at most `most` pictures, evenly spread over the ranking by tokens, fewest first.

    Args:
        counts: (n,) tokens of each picture; of equal ones the earlier comes first.
        most: Number of pictures.
    """
    numbers = [int(count) for count in counts]
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    places = np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int)
    return [order[place] for place in places]


def complexity_sheet(
    pictures: Tensor | np.ndarray, counts: Tensor | np.ndarray, most: int = MOST
) -> Image.Image:
    """Arrange pictures by their number of tokens, with the number below each.

    Args:
        pictures: (n, H, W, 3) uint8.
        counts: (n,) tokens of each picture.
        most: Number of pictures on the sheet, see `evenly_ranked`, which also tells which of many to read.

    Raises:
        ArzooError: The numbers of pictures and counts differ, or as `contact_sheet`.
    """
    images, numbers = np.asarray(pictures), np.asarray(counts)
    if len(images) != len(numbers):
        raise ArzooError(f"{len(numbers)} counts for {len(images)} pictures; give one per picture")
    rows = evenly_ranked(numbers, most)
    captions = [f"{numbers[row]} token{'s' if numbers[row] != 1 else ''}" for row in rows]
    zoom = legible_zoom(images.shape[2]) if images.ndim == 4 else 1
    return contact_sheet(images[rows], zoom=zoom, captions=captions)
