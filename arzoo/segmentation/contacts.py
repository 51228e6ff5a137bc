"""Which fragments touch, over how many faces of voxels, and with which affinity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SLICES = 8
"""Slices that are looked at together: lists of faces are several times as large as the voxels."""


@dataclass(frozen=True)
class Contacts:
    """Pairs of fragments that touch, in the order of their numbers.

    Attributes:
        pairs: (E, 2) int64 numbers, the smaller one first.
        means: (E,) float64 mean affinity of the faces between them.
        faces: (E,) int64 number of faces.
    """

    pairs: Tensor
    means: Tensor
    faces: Tensor


def contacts(affinities_3ZYX: Tensor, fragments_ZYX: Tensor) -> Contacts:
    """Find all pairs of fragments that share a face of a voxel; 0 is no fragment.

    Args:
        affinities_3ZYX: Affinity of each voxel and the one before it along z, y and x.
        fragments_ZYX: int64, numbered from 1 on without large gaps.
    """
    base = int(fragments_ZYX.max()) + 1
    tallies = []
    for first in range(0, len(fragments_ZYX), SLICES):
        last = first + SLICES
        own, others = affinities_3ZYX[:, first:last], fragments_ZYX[max(first - 1, 0) : last]
        tallies.append(_tally(own, others, base, before=first > 0))
    keys, totals, counts = (torch.cat(parts) for parts in zip(*tallies, strict=True))
    names, which = keys.unique(return_inverse=True)
    sums = which.bincount(totals, minlength=len(names))
    faces = torch.zeros_like(names).index_add_(0, which, counts)
    return Contacts(torch.stack([names // base, names % base], 1), sums / faces, faces)


def _tally(
    affinities_3ZYX: Tensor, fragments_ZYX: Tensor, base: int, before: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return keys of pairs, sums of their affinities and numbers of their faces in some slices.

    Args:
        affinities_3ZYX: Of these slices.
        fragments_ZYX: Of these slices, after that before them if there is one.
        base: Keys are smaller number x base + larger number.
        before: Whether there is a slice before them.
    """
    keys, values = list[Tensor](), list[Tensor]()
    own = fragments_ZYX[int(before) :]
    for axis, affinity in enumerate(affinities_3ZYX):
        whole = fragments_ZYX if axis == 0 else own
        side = whole.shape[axis]
        one, other = whole.narrow(axis, 1, side - 1), whole.narrow(axis, 0, side - 1)
        face = (one != other) & (one > 0) & (other > 0)
        here, there = one[face], other[face]
        keys.append(torch.minimum(here, there) * base + torch.maximum(here, there))
        # Affinities have no slice before these; where there is none in the volume, the first has no face.
        start = 0 if axis == 0 and before else 1
        values.append(affinity.narrow(axis, start, affinity.shape[axis] - start)[face])
    names, which, faces = torch.cat(keys).unique(return_inverse=True, return_counts=True)
    return names, which.bincount(torch.cat(values).double(), minlength=len(names)), faces
