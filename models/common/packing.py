"""Packed sequences: sequences of unlike lengths one after another, each of which attends to itself only.

"Patch n' Pack: NaViT, a Vision Transformer for any Aspect Ratio and Resolution", 2023, section 2.1. Nothing is padded:
segments of the same length are a batch, so what lies outside of a segment cannot reach it.

Shapes: S positions of the packed sequence, d channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from arzoo.models.common.attention import attend


class Segments:
    """Consecutive segments of a packed sequence.

    Args:
        lengths: Lengths of the segments, which add up to S.
        device: Device of the sequence.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        sizes = torch.tensor(lengths)
        starts = sizes.cumsum(0) - sizes
        kinds = sorted(set(lengths))
        self.batches = [(int((sizes == length).sum()), length) for length in kinds]
        """Number and length of the segments of each length, the shortest first."""
        rows = [starts[sizes == length, None] + torch.arange(length) for length in kinds]
        order = torch.cat([row.flatten() for row in rows])
        sorted_already = bool((order == torch.arange(len(order))).all())
        self._order = None if sorted_already else order.to(device)
        self._back = None if sorted_already else order.argsort(stable=True).to(device)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Softmax attention within each segment, of (S, heads, d) each; returns (S, heads * d)."""
        parts = [query, key, value]
        if self._order is not None:
            parts = [part.index_select(0, self._order) for part in parts]
        counts = [count * length for count, length in self.batches]
        mixed = [
            attend(*(part.unflatten(0, batch).transpose(1, 2) for part in batched), None)
            .transpose(1, 2)
            .flatten(0, 1)
            for batch, *batched in zip(self.batches, *(part.split(counts) for part in parts), strict=True)
        ]
        joined = torch.cat(mixed).flatten(1) if len(mixed) > 1 else mixed[0].flatten(1)
        return joined if self._back is None else joined.index_select(0, self._back)
