"""Numbers of fragments and segments: which are the same partition, and how they are written."""

from __future__ import annotations

import torch
from torch import Tensor


def renumbered(parts_ZYX: Tensor) -> Tensor:
    """Number parts from 1 on in the order of their first voxels; 0 stays 0.

    Equal partitions become equal tensors, whatever their numbers were.

    Args:
        parts_ZYX: int64, any shape.
    """
    flat = parts_ZYX.flatten()
    names, which = flat.unique(return_inverse=True)
    places = torch.arange(flat.numel())
    first = torch.full((len(names),), flat.numel()).scatter_reduce_(0, which, places, "amin")
    background = names == 0
    first[background] = -1
    order = first.argsort(stable=True)
    numbers = torch.empty_like(order)
    numbers[order] = torch.arange(len(names)) + int(not background.any())
    return numbers[which].view(parts_ZYX.shape)
