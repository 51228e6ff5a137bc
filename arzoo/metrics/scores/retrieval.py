"""Retrieval: the rank of a picture's right text among others."""

from __future__ import annotations

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.metrics.scores.bootstrap import error_of_mean

_REPLICATES = 1000


def ranks(similarity: Tensor, right: Tensor) -> Tensor:
    """Return the rank of each picture's right text among all texts, best first.

    Args:
        similarity: (B, C) score of each picture and text.
        right: (B,) int64, the right text of each picture.

    Returns:
        (B,) int64, 1 is best; texts with the same score as the right one count as better.
    """
    own = similarity.gather(1, right[:, None])
    return (similarity >= own).sum(1)


def recall(rank: Tensor, k: int) -> Tensor:
    """Return R@k of each picture, (B,): 1 where the right text is among the best k, else 0."""
    return (rank <= k).double()


def derangement(n: int, seed: int) -> Tensor:
    """Return a random order (n,) in which no item keeps its place, for shuffled pairs.

    Raises:
        ArzooError: n is less than 2.
    """
    if n < 2:
        raise ArzooError(f"shuffled pairs need at least 2 captions, got {n}")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return torch.empty_like(order).scatter_(0, order, order.roll(1))


def mean_and_error(values: Tensor) -> tuple[float, float | None]:
    """Return the mean of values (n,) and its standard error by the bootstrap (resamples with replacement)."""
    return float(values.double().mean()), error_of_mean(values, _REPLICATES)
