"""Reads of forked samples, which some methods of speculation make to read several continuations with one call."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from arzoo.core.contracts import Read


def of_samples(read: Read, index: Tensor, batch: int) -> Read:
    """The part of a Read that belongs to some samples, with all their branches.

    Args:
        read: What a backbone read for a group, without what heads add.
        index: (n,) the samples.
        batch: Number of samples of the Read.
    """
    assert read.features is not None
    rows = torch.cat([index + first for first in range(0, len(read.features), batch)])
    positions = read.positions if len(read.positions) == 1 else read.positions[index]
    available = read.available
    if available is not None and len(available) > 1:
        available = available[index]
    return replace(read, positions=positions, features=read.features[rows], available=available)
