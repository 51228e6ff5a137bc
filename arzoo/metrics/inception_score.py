"""Inception score ("Improved Techniques for Training GANs", 2016): sure of every picture, undecided over all."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from arzoo.metrics.bootstrap import standard_error

SPLITS = 10
SEED = 2020
"""Of the shuffle before splitting, as in torch-fidelity: classes in order would spoil every split."""


def inception_score(logits: Tensor, splits: int = SPLITS, seed: int = SEED) -> float:
    """Mean over splits of exp(mean KL(p(class | picture) || p(class))).

    Args:
        logits: (n, K).
        splits: Number of equal parts of the shuffled pictures, at most n.
        seed: Of the shuffle.
    """
    order = torch.from_numpy(np.random.RandomState(seed).permutation(len(logits)))
    log_p = logits.double()[order].log_softmax(1)
    n, splits = len(log_p), min(splits, len(log_p))
    parts = [log_p[i * n // splits : (i + 1) * n // splits] for i in range(splits)]
    return sum(_score(part, torch.ones(len(part))) for part in parts) / splits


def inception_score_error(logits: Tensor, replicates: int) -> float | None:
    """Standard error when the pictures are resampled, of the score without splits."""
    log_p = logits.double().log_softmax(1)
    return standard_error(lambda times: _score(log_p, times), len(log_p), replicates)


def _score(log_p: Tensor, times: Tensor) -> float:
    share = (times.double() / times.sum())[:, None]
    p = log_p.exp()
    mean = (share * p).sum(0)
    divergence = (p * (log_p - mean.clamp(min=1e-300).log())).sum(1, keepdim=True)
    return float((share * divergence).sum().exp())
