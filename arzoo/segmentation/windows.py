"""Prediction of volumes that are larger than a network sees at once: windows that overlap and are blended.

"TokenUnify: Scaling Up Autoregressive Pretraining for Neuron Segmentation", 2025, evaluates with MONAI's sliding
windows; starts and weights are the same here. Windows lie in rows along z, and a slice is done once no later row
reaches it, so memory is that of one row, whatever the depth of the volume.

Shapes: K channels of the prediction, Z Y X sides of the volume, z y x those of a window.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from arzoo.base.errors import UsageError
from arzoo.core.volumes import Size
from arzoo.data.volume import VoxelSource

OVERLAP = 0.25
"""Share of a window's side by which its neighbour overlaps it, as published."""
DEVIATION = 0.125
"""Deviation of the weights along an axis, as a share of the window's side, as published."""
LEAST = 1e-3
"""Smallest weight of a voxel, as published; the largest is 1."""


def window_starts(side: int, window: int, overlap: float = OVERLAP) -> list[int]:
    """Return the first voxels of the windows along an axis; the last window ends with the volume."""
    last = max(side - window, 0)
    return [*range(0, last, max(int(window * (1 - overlap)), 1)), last]


def all_starts(sides: Size, window: Size, overlap: float = OVERLAP) -> list[list[int]]:
    """Return the first voxels of the windows along z, y and x."""
    return [window_starts(side, part, overlap) for side, part in zip(sides, window, strict=True)]


def blending(window: Size) -> Tensor:
    """Return the weights (z, y, x) of the voxels of a window: a normal curve around its middle."""
    weights = torch.ones(())
    for side in window:
        away = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
        weights = weights[..., None] * (-0.5 * (away / (DEVIATION * side)).square()).exp()
    return weights.clamp(min=max(float(weights.min()), LEAST)).float()


def read_mirrored(source: VoxelSource, start: Size, sides: Size) -> Tensor:
    """Read a part (Z, Y, X) that may reach beyond the end of the volume, which goes on as its mirror image."""
    inside = [
        min(first + side, whole) - first
        for first, side, whole in zip(start, sides, source.sides, strict=True)
    ]
    part = source.read(start, (inside[0], inside[1], inside[2]))
    for axis, (have, side) in enumerate(zip(inside, sides, strict=True)):
        if have < side:
            period = max(2 * (have - 1), 1)
            away = torch.arange(side) % period
            part = part.index_select(axis, torch.minimum(away, period - away) if have > 1 else away)
    return part


def slabs(
    predict: Callable[[Tensor], Tensor],
    source: VoxelSource,
    window: Size,
    overlap: float = OVERLAP,
    batch: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[tuple[int, Tensor]]:
    """Yield the first slice and the prediction (K, z, Y, X) float32 of one slab after another.

    Args:
        predict: Makes (B, K, z, y, x) of windows (B, 1, z, y, x) of voxels in [0, 1].
        source: The volume; along axes where it is smaller than the window it is mirrored.
        window: Sides of the windows.
        overlap: Share of a window's side by which neighbors overlap, in [0, 1).
        batch: Windows that are predicted together.
        report: Called with the windows that are done, and their number.

    Raises:
        UsageError: `overlap` or `batch` is out of range.
    """
    if not 0 <= overlap < 1 or batch < 1:
        raise UsageError(
            f"windows overlap by a share from 0 to below 1, one at a time or more; got {overlap}, {batch}"
        )
    sides = source.sides
    padded = tuple(map(max, sides, window))
    starts = all_starts(sides, window, overlap)
    weights, total, done = blending(window), math.prod(map(len, starts)), 0
    sums = torch.zeros(0)  # of the predictions times their weights, and of the weights
    for row, z in enumerate(starts[0]):
        places = [(z, y, x) for y, x in itertools.product(*starts[1:])]
        for some in (places[i : i + batch] for i in range(0, len(places), batch)):
            parts = torch.stack([read_mirrored(source, place, window) for place in some])
            made = predict(parts[:, None].float() / 255)
            if not len(sums):
                sums = torch.zeros(made.shape[1] + 1, window[0], *padded[1:])
            for prediction, (_, y, x) in zip(made.float(), some, strict=True):
                area = (..., slice(y, y + window[1]), slice(x, x + window[2]))
                sums[:-1][area] += weights * prediction
                sums[-1:][area] += weights
            done += len(some)
            report(done, total)
        following = starts[0][row + 1] if row + 1 < len(starts[0]) else sides[0]
        ready = following - z
        yield z, (sums[:-1, :ready] / sums[-1:, :ready])[..., : sides[1], : sides[2]]
        kept = window[0] - ready
        sums[:, :kept] = sums[:, ready:].clone()
        sums[:, kept:] = 0


def whole(parts: Iterator[tuple[int, Tensor]], sides: Sequence[int]) -> Tensor:
    """Put slabs together to (K, Z, Y, X)."""
    made = torch.zeros(0)
    for z, slab in parts:
        if not len(made):
            made = slab.new_empty(len(slab), *sides)
        made[:, z : z + slab.shape[1]] = slab
    return made
