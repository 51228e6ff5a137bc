"""Usage of a codebook: codes used and perplexity."""

from __future__ import annotations

import torch
from torch import Tensor

from arzoo.metrics.scores.bootstrap import standard_error


def codebook_use(codes: Tensor, vocab: int) -> tuple[int, float]:
    """Return the number of different codes, and the perplexity of their distribution.

    Args:
        codes: int64 of any shape; negative ones are no codes.
        vocab: Size of the codebook.
    """
    return use_of(torch.bincount(codes[codes >= 0], minlength=vocab))


def use_of(counts: Tensor) -> tuple[int, float]:
    """Return the same from the counts (V,) of each code."""
    share = counts.double() / counts.sum()
    entropy = -(share * share.clamp(min=1e-300).log()).sum()
    return int((share > 0).sum()), float(entropy.exp())


def perplexity_error(codes: Tensor, vocab: int, replicates: int) -> float | None:
    """Return the standard error of the perplexity when pictures are resampled, each with all of its codes.

    Args:
        codes: (n, ...) codes of n pictures; negative ones are no codes.
        vocab: Size of the codebook.
        replicates: Number of resamples; fewer than 2 give None.
    """
    rows = codes.flatten(1)
    present = rows >= 0

    def perplexity(times: Tensor) -> float:
        weights = times.double()[:, None].expand_as(rows)[present]
        return use_of(torch.bincount(rows[present], weights, minlength=vocab))[1]

    return standard_error(perplexity, len(rows), replicates)
