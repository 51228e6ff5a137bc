"""Affinities: whether a voxel and its neighbor are of one cell, which is what a network is fine-tuned to predict.

"TokenUnify: Scaling Up Autoregressive Pretraining for Neuron Segmentation", 2025, fine-tuning; targets, class balance
and loss as in its published code. Affinities over long offsets, as other networks learn beside them, follow the same
rule.

Shapes: B samples, K offsets, Z Y X sides of the volume.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.volumes import Size, in_words

NEAREST: tuple[Size, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
"""Offsets along z, y and x of the neighbours that published networks predict."""
FRACTIONS = (0.05, 0.99)
"""Range of the fraction of ones that classes are balanced by, as published."""


def without_borders(labels_BZYX: Tensor) -> Tensor:
    """Set pixels to 0 whose 3 x 3 neighbourhood in their slice has more than one cell (0 is none).

    Volumes end in a mirror.

    Args:
        labels_BZYX: int64, at least 2 pixels along y and x.
    """
    many = torch.iinfo(labels_BZYX.dtype).max
    least = torch.where(labels_BZYX > 0, labels_BZYX, many)
    most = labels_BZYX
    for axis in (2, 3):
        least, most = _extreme(least, axis, torch.minimum), _extreme(most, axis, torch.maximum)
    # Without any cell the least is the largest number, and the pixel is 0 already.
    return torch.where(least < most, 0, labels_BZYX)


def _extreme(x: Tensor, axis: int, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Choose among each voxel and its two neighbors along an axis."""
    last = x.shape[axis] - 2
    before = torch.cat([x.narrow(axis, 1, 1), x.narrow(axis, 0, last + 1)], axis)
    after = torch.cat([x.narrow(axis, 1, last + 1), x.narrow(axis, last, 1)], axis)
    return choose(choose(before, after), x)


def affinities(labels_BZYX: Tensor, offsets: Sequence[Size] = NEAREST) -> Tensor:
    """Return 1 where a voxel and the one at an offset are of the same cell, else 0, as (B, K, Z, Y, X) float32.

    Where the other voxel is outside of the volume, it is 1 in every cell.

    Args:
        labels_BZYX: int64 number of the cell of each voxel, 0 for none.
        offsets: Where the other voxel is, along z, y and x.

    Raises:
        ArzooError: An offset leaves the volume from everywhere.
    """
    sides = labels_BZYX.shape[1:]
    inside = labels_BZYX > 0
    channels = list[Tensor]()
    for offset in offsets:
        if any(abs(step) >= side for step, side in zip(offset, sides, strict=True)):
            raise ArzooError(
                f"the offset {offset} is not within a volume of {in_words(tuple(sides))} voxels: take larger crops"
            )
        channel = inside.clone()
        here, there = list[slice](), list[slice]()
        for step, side in zip(offset, sides, strict=True):
            here.append(slice(max(-step, 0), side - max(step, 0)))
            there.append(slice(max(step, 0), side - max(-step, 0)))
        own, other = (..., *here), (..., *there)
        channel[own] &= labels_BZYX[own] == labels_BZYX[other]
        channels.append(channel)
    return torch.stack(channels, 1).float()


def balance(affinities_BKZYX: Tensor) -> Tensor:
    """Return weights of the same shape that give zeros and ones of a sample the same sum, over all its offsets.

    The rarer of both weighs more, the other 1; fractions outside of `FRACTIONS` count as its ends. Where there is but
    one of both, all weigh 1.
    """
    mean = affinities_BKZYX.flatten(1).mean(1)[:, None, None, None, None]
    ones = mean.clamp(*FRACTIONS)
    weights = torch.where(
        affinities_BKZYX > 0, ((1 - ones) / ones).clamp(min=1), (ones / (1 - ones)).clamp(min=1)
    )
    return torch.where((mean > 0) & (mean < 1), weights, 1.0)


def affinity_loss(predicted_BKZYX: Tensor, affinities_BKZYX: Tensor) -> Tensor:
    """Return the loss (B,): balanced squared errors, summed over offsets and averaged over voxels.

    Args:
        predicted_BKZYX: What a network makes of the volume, in [0, 1].
        affinities_BKZYX: 0 or 1.
    """
    errors = balance(affinities_BKZYX) * (predicted_BKZYX - affinities_BKZYX).square()
    return errors.sum(1).flatten(1).mean(1)
