"""Kernel distance ("Demystifying MMD GANs", 2018, section 4): unbiased, so it can be read at small sample sizes."""

from __future__ import annotations

import torch
from torch import Tensor


def kernel_distance(
    a: Tensor, b: Tensor, subsets: int = 50, size: int = 500, seed: int = 0
) -> tuple[float, float]:
    """Mean over subsets of the unbiased squared MMD with the kernel (x.y / D + 1)^3.

    Args:
        a: (n, D) features.
        b: (m, D) features.
        subsets: Number of subsets.
        size: Pictures of either side a subset, at most n and m.
        seed: Of the subsets.

    Returns:
        The mean, and its standard error over the subsets (0 when a subset is everything).
    """
    random = torch.Generator().manual_seed(seed)
    size = min(size, len(a), len(b))
    scores = []
    for _ in range(1 if size == len(a) == len(b) else subsets):
        x = a[torch.randperm(len(a), generator=random)[:size]].double()
        y = b[torch.randperm(len(b), generator=random)[:size]].double()
        scores.append(squared_mmd(x, y))
    values = torch.tensor(scores, dtype=torch.float64)
    error = values.std() / len(values) ** 0.5 if len(values) > 1 else torch.zeros(())
    return float(values.mean()), float(error)


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy of features (n, D) and (n, D)."""
    n, width = x.shape
    xx, yy, xy = (((p @ q.T) / width + 1) ** 3 for p, q in ((x, x), (y, y), (x, y)))
    inside = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (n * (n - 1))
    return float(inside - 2 * xy.mean())
