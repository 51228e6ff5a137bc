"""Numbers of fragments and segments: which are the same partition, and how they are written."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 1 << 22
"""Voxels that are looked at together, as their places take as much memory as their numbers."""


def renumbered(parts_ZYX: Tensor) -> Tensor:
    """Number parts from 1 on in the order of their first voxels; 0 stays 0.

    Equal partitions become equal tensors, whatever their numbers were.

    Args:
        parts_ZYX: int64, any shape.
    """
    flat = parts_ZYX.flatten()
    background = bool((flat == 0).any())
    if int(flat.max()) >= flat.numel() or int(flat.min()) < 0:
        names, flat = flat.unique(return_inverse=True)
        if background:  # 0 has to stay 0
            zero = int(torch.searchsorted(names, torch.zeros((), dtype=names.dtype)))
            flat = torch.where(flat == zero, 0, torch.where(flat < zero, flat + 1, flat))
        else:
            flat += 1
    count = int(flat.max()) + 1
    first = torch.full((count,), flat.numel())
    for start in range(0, flat.numel(), CHUNK):
        some = flat[start : start + CHUNK]
        first.scatter_reduce_(0, some, torch.arange(start, start + len(some)), "amin")
    first[0] = -1
    order = first.argsort(stable=True)  # numbers that do not occur come last
    numbers = torch.empty_like(order)
    numbers[order] = torch.arange(count)
    return numbers[flat].view(parts_ZYX.shape)
