"""Pages of a TIFF whose packing tifffile does not read alone, such as LZW: Pillow unpacks most of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from arzoo.base.errors import ArzooError, MissingPackage, require


def unpacks(page: Any) -> bool:
    """Return whether tifffile unpacks a page with the packages that are installed."""
    known = require("tifffile", "em").TIFF
    return page.compression in known.DECOMPRESSORS and page.predictor in known.UNPREDICTORS


class UnpackedPages:
    """Pages of a TIFF as an array, unpacked by Pillow.

    A page is unpacked as a whole, whatever part of it is asked for.

    Args:
        path: The file.
        series: Pages of equal shape and type, as tifffile describes them; the last two axes are y and x.

    Raises:
        MissingPackage: Pillow does not read them either.
    """

    def __init__(self, path: Path, series: Any) -> None:
        self.path, self.shape, self.dtype = path, series.shape, series.dtype
        most = Image.MAX_IMAGE_PIXELS or math.inf
        if math.prod(self.shape[:-2]) != len(series.pages) or math.prod(self.shape[-2:]) > most:
            raise self._unread(series.keyframe)
        self.numbers = np.array([page.index for page in series.pages]).reshape(self.shape[:-2])
        try:
            first = self._page(self.numbers.flat[0])
        except OSError as error:
            if series.keyframe.compression.name in ("LZW", "JPEG"):  # of which every Pillow knows
                raise ArzooError(f"{path} is damaged or not complete: {error}. Copy it again.") from error
            raise self._unread(series.keyframe) from error
        if first.shape != self.shape[-2:] or first.dtype != self.dtype.newbyteorder("="):
            raise self._unread(series.keyframe)

    def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
        numbers = np.asarray(self.numbers[index[:-2]])
        pages = [self._page(number)[index[-2:]] for number in numbers.flat]
        return np.stack(pages).reshape(*numbers.shape, *pages[0].shape)

    def _page(self, number: int) -> np.ndarray:
        with Image.open(self.path) as image:
            image.seek(int(number))
            page = np.asarray(image)
        return page.astype(page.dtype.newbyteorder("="), copy=False)

    def _unread(self, page: Any) -> MissingPackage:
        return MissingPackage(
            f"{self.path} is packed by {page.compression.name}, with numbers of type {self.dtype}, which is not read "
            "without a further package. Install it with: pip install imagecodecs"
        )
