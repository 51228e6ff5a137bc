"""Use of a codebook."""

from __future__ import annotations

import torch
from torch import Tensor

from arzoo.metrics.scores.bootstrap import standard_error


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


def perplexity_error(codes: Tensor, vocab: int, replicates: int) -> float | None:
    """Standard error of the perplexity when pictures are resampled; codes of one picture come and go together.

    Args:
        codes: (n, ...) of n pictures.
        vocab: Number of codes there are.
        replicates: How many resamples; fewer than 2 give None.
    """
    rows = codes.flatten(1)

    def perplexity(times: Tensor) -> float:
        weights = times.double().repeat_interleave(rows.shape[1])
        return use_of(torch.bincount(rows.flatten(), weights, minlength=vocab))[1]

    return standard_error(perplexity, len(rows), replicates)
