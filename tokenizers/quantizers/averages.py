"""Codes as running averages of the vectors that they stand for.

"Neural Discrete Representation Learning", 2017, appendix A.1.

Shapes: B codebooks, K codes of each, C channels, n vectors.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

EPSILON = 1e-5
"""Vectors that are added to every code before the division (Laplace smoothing)."""


class CodeAverages(nn.Module):
    """Running averages, over training steps, of the number of vectors of each code and of their sum.

    Vectors are collected over the micro-batches of a step, and averaged when it is over.

    Args:
        codes: (B, K, C) initial codes; each counts as one vector.
        decay: Share of the old average that a step keeps.
    """

    sizes: Tensor
    sums: Tensor

    def __init__(self, codes: Tensor, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("sizes", torch.ones(codes.shape[:2]))
        self.register_buffer("sums", codes.detach().clone())
        self._new: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def collect(self, book: int, codes: Tensor, vectors: Tensor) -> None:
        """Add vectors (n, C) of the present step, and the codes (n,) of a codebook that stand for them."""
        if self._new is None:
            self._new = torch.zeros_like(self.sizes), torch.zeros_like(self.sums)
        sizes, sums = self._new
        sizes[book].index_add_(0, codes, torch.ones_like(vectors[:, 0]))
        sums[book].index_add_(0, codes, vectors)

    @torch.no_grad()
    def update(self) -> Tensor | None:
        """End a step: average what was collected in all processes, and return the codes (B, K, C); None if nothing."""
        if self._new is None:
            return None
        new, self._new = self._new, None
        for average, part in zip((self.sizes, self.sums), new, strict=True):
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(part)
            average.lerp_(part, 1 - self.decay)
        total = self.sizes.sum(1, keepdim=True)
        smoothed = (self.sizes + EPSILON) / (total + EPSILON * self.sizes.shape[1]) * total
        return self.sums / smoothed[..., None]

    @torch.no_grad()
    def move(self, book: int, codes: Tensor, vectors: Tensor) -> None:
        """Begin anew with codes (n,) of a codebook: each counts as one vector, of (n, C)."""
        self.sizes[book, codes], self.sums[book, codes] = 1.0, vectors
