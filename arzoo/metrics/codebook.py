"""Use of a codebook."""

from __future__ import annotations

import torch
from torch import Tensor


def codebook_use(codes: Tensor, vocab: int) -> tuple[int, float]:
    """Number of different codes, and the perplexity of their distribution.

    Args:
        codes: int64 of any shape.
        vocab: Number of codes there are.
    """
    return use_of(torch.bincount(codes.flatten(), minlength=vocab))


def use_of(counts: Tensor) -> tuple[int, float]:
    """The same, of how often every code (V,) was used."""
    share = counts.double() / counts.sum()
    entropy = -(share * share.clamp(min=1e-300).log()).sum()
    return int((share > 0).sum()), float(entropy.exp())
