"""Inception score ("Improved Techniques for Training GANs", 2016): high for confident and diverse predictions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from arzoo.metrics.scores.bootstrap import standard_error

SPLITS = 10
SEED = 2020
"""Seed of the shuffle before splitting, as in torch-fidelity: pictures sorted by class would spoil each split."""


def inception_score(logits: Tensor, splits: int = SPLITS, chunk: int = 0) -> float:
    """Return the mean over parts of exp(mean KL(p(class | picture) || p(class))).

    Args:
        logits: (n, K).
        splits: Number of equal parts of the shuffled pictures, see `splits_of`.
        chunk: If not 0, take parts of this many pictures in their order; the last may be smaller (ADM).
    """
    log_p, n = logits.double().log_softmax(1), len(logits)
    if chunk:
        parts = log_p.split(chunk)
    else:
        log_p = log_p[torch.from_numpy(np.random.RandomState(SEED).permutation(n))]
        splits = splits_of(n, splits)
        parts = tuple(log_p[i * n // splits : (i + 1) * n // splits] for i in range(splits))
    return sum(_score(part, torch.ones(len(part))) for part in parts) / len(parts)


def splits_of(n: int, splits: int = SPLITS) -> int:
    """Return the number of parts of n pictures, each of 2 at least: the score of a single picture is always 1."""
    return max(1, min(splits, n // 2))


def inception_score_error(logits: Tensor, replicates: int) -> float | None:
    """Return the standard error of the score without splits when the pictures are resampled."""
    log_p = logits.double().log_softmax(1)
    return standard_error(lambda times: _score(log_p, times), len(log_p), replicates)


def _score(log_p: Tensor, times: Tensor) -> float:
    share = (times.double() / times.sum())[:, None]
    p = log_p.exp()
    mean = (share * p).sum(0)
    divergence = (p * (log_p - mean.clamp(min=1e-300).log())).sum(1, keepdim=True)
    return float((share * divergence).sum().exp())
