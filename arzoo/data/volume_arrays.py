"""An array in a file of volumes that is open: which one is taken, its shape, its units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from arzoo.base.errors import ArzooError, some
from arzoo.core.volumes import Size, in_words

Sides = tuple[float, float, float]
"""Sides of a voxel along z, y and x in nanometers."""
NANOMETERS = {
    **dict.fromkeys(("a", "å", "angstrom"), 0.1),
    **dict.fromkeys(("nm", "nanometer", "nanometers"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", r"\u00b5m", "micron", "microns", "micrometer", "micrometers"), 1e3),
    **dict.fromkeys(("mm", "millimeter"), 1e6),
    **dict.fromkeys(("cm", "centimeter"), 1e7),
    **dict.fromkeys(("m", "meter"), 1e9),
}
"""Units as files write them, in lower case."""


@dataclass(frozen=True)
class OpenArray:
    """A volume in a file that is open.

    Attributes:
        dataset: Path of the array in the file; empty in files of one array.
        sides: (Z, Y, X).
        dtype: Type of the numbers that `part` returns.
        chunks: Sides of the parts that a file is read in.
        voxel_size: What the file says, None if it says nothing.
        part: Reads the part that three slices name, (Z, Y, X).
    """

    dataset: str
    sides: Size
    dtype: np.dtype
    chunks: Size
    voxel_size: Sides | None
    part: Callable[[tuple[slice, slice, slice]], np.ndarray]


def choose(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the only array of three dimensions, or `main`."""
    volumes = [name for name, shape in shapes.items() if _extra(shape) is not None]
    if len(volumes) == 1:
        return volumes[0]
    if "main" in volumes:
        return "main"
    listed = some([f"{name} ({in_words(shape) or 'one number'})" for name, shape in sorted(shapes.items())])
    if volumes:
        raise ArzooError(f"{path} holds several volumes: {listed}. Say which dataset to read.")
    raise ArzooError(f"{path} holds no array of three dimensions, but {listed or 'nothing'}")


def _extra(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return how many axes of length 1 are before and behind a volume's three; None if it is no volume."""
    first, last = 0, len(shape)
    while last - first > 3 and shape[first] == 1:
        first += 1
    while last - first > 3 and shape[last - 1] == 1:
        last -= 1
    return (first, len(shape) - last) if last - first == 3 and all(shape) else None


def as_volume(path: Path, dataset: str, array: Any, chunks: Any, size: Sequence[float] | None) -> OpenArray:
    """Return an array of a file as a volume.

    Args:
        path: The file.
        dataset: Name of the array in it.
        array: Has a shape and a type, and gives parts by slices.
        chunks: Its parts, None if it has none but rows.
        size: Voxel size, one number for every axis or for the three of the volume.
    """
    where = f"{path}: {dataset}" if dataset else str(path)
    shape = array.shape or ()
    extra = _extra(shape)
    if extra is None:
        raise ArzooError(f"{where} has the shape {in_words(shape) or '()'}; a volume is z, y, x")
    if array.dtype.kind not in "buif":
        raise ArzooError(
            f"{where} has numbers of type {array.dtype} and the shape {in_words(shape)}; a volume has one real number "
            "for each voxel"
        )
    before, behind = extra
    kept = slice(before, len(shape) - behind)

    def part(index: tuple[slice, slice, slice]) -> np.ndarray:
        return np.asarray(array[(0,) * before + index + (0,) * behind])

    sides = cast("Size", tuple(int(side) for side in shape[kept]))
    parts = (1, 1, sides[2]) if chunks is None else cast("Size", tuple(chunks[kept]))
    return OpenArray(dataset, sides, array.dtype, parts, _voxel_size(size, kept, len(shape)), part)


def _voxel_size(size: Sequence[float] | None, kept: slice, axes: int) -> Sides | None:
    """Return what a file says as three sides; None if it is no size."""
    if size is not None and len(size) == axes:
        size = size[kept]
    if size is None or len(size) != 3 or not all(math.isfinite(side) and side > 0 for side in size):
        return None
    z, y, x = (float(f"{side:.7g}") for side in size)  # files have 32 bits: 8 and not 8.00000037997961
    return z, y, x
