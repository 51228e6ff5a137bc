"""Which fragments touch, over how many faces of voxels, and with which affinity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
    keys, values = list[Tensor](), list[Tensor]()
    for axis, affinity in enumerate(affinities_3ZYX):
        side = fragments_ZYX.shape[axis]
        one, other = fragments_ZYX.narrow(axis, 1, side - 1), fragments_ZYX.narrow(axis, 0, side - 1)
        face = (one != other) & (one > 0) & (other > 0)
        here, there = one[face], other[face]
        keys.append(torch.minimum(here, there) * base + torch.maximum(here, there))
        values.append(affinity.narrow(axis, 1, side - 1)[face])
    names, which, faces = torch.cat(keys).unique(return_inverse=True, return_counts=True)
    sums = which.bincount(torch.cat(values).double(), minlength=len(names))
    return Contacts(torch.stack([names // base, names % base], 1), sums / faces, faces)
