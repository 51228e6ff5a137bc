"""Kernel distance ("Demystifying MMD GANs", 2018, section 4): unbiased, so it can be read at small sample sizes."""

from __future__ import annotations

import torch
from torch import Tensor

from arzoo.metrics.scores.bootstrap import resamples

SUBSETS, SIZE = 100, 1000
"""The number of subsets and the pictures of either side a subset in published figures; see `subsets_of`."""
_MOST_RESAMPLED = 3000
"""The bootstrap keeps kernel matrices of this many rows; beyond, a part of the pictures stands in for all."""


def subsets_of(n: int, m: int, subsets: int = SUBSETS, size: int = SIZE) -> tuple[int, int]:
    """How many subsets of n and m pictures are taken, and the pictures of either side a subset.

    A subset never has more pictures than the smaller set; one that is everything on both sides is taken once.
    """
    size = min(size, n, m)
    return (1 if size == n == m else subsets), size


def subsets_in_words(n: int, m: int) -> str:
    """What `kernel_distance` takes of n and m pictures."""
    subsets, size = subsets_of(n, m)
    if subsets == 1:
        return f"1 subset of {size}, all of both sets"
    return f"{subsets} subsets of {size}" + (", all of the smaller set" if size < SIZE else "")


def kernel_distance(a: Tensor, b: Tensor, subsets: int = SUBSETS, size: int = SIZE, seed: int = 0) -> float:
    """Mean over subsets of the unbiased squared MMD with the kernel (x.y / D + 1)^3.

    Args:
        a: (n, D) features.
        b: (m, D) features.
        subsets: Number of subsets, see `subsets_of`.
        size: Pictures of either side a subset.
        seed: Of the subsets.
    """
    random = torch.Generator().manual_seed(seed)
    subsets, size = subsets_of(len(a), len(b), subsets, size)
    scores = []
    for _ in range(subsets):
        x = a[torch.randperm(len(a), generator=random)[:size]].double()
        y = b[torch.randperm(len(b), generator=random)[:size]].double()
        scores.append(squared_mmd(x, y))
    return sum(scores) / len(scores)


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy of features (n, D) and (n, D)."""
    n = len(x)
    xx, yy, xy = (_kernel(p, q) for p, q in ((x, x), (y, y), (x, y)))
    inside = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (n * (n - 1))
    return float(inside - 2 * xy.mean())


def kernel_distance_error(a: Tensor, b: Tensor, replicates: int) -> float | None:
    """Standard error of the kernel distance when the pictures of both sides are resampled.

    Pairs of a picture with itself are left out, also those that resampling makes, so that replicates are unbiased. For
    sets that hardly differ the distance is a degenerate U-statistic, and this error is too large rather than too small.
    Where only a part of the pictures is resampled, the error is scaled by the root of its share.
    """
    n, m = min(len(a), _MOST_RESAMPLED), min(len(b), _MOST_RESAMPLED)
    if replicates < 2 or min(n, m) < 2:
        return None
    x, y = a[:: len(a) // n][:n].double(), b[:: len(b) // m][:m].double()
    xx, yy, xy = _kernel(x, x).fill_diagonal_(0), _kernel(y, y).fill_diagonal_(0), _kernel(x, y)
    scores = []
    for p, q in zip(resamples(n, replicates), resamples(m, replicates, seed=1), strict=True):
        v, w = p.double(), q.double()
        inside = v @ xx @ v / (n**2 - v @ v) + w @ yy @ w / (m**2 - w @ w)
        scores.append(inside - 2 * (v @ xy @ w) / (n * m))
    share = min(n / len(a), m / len(b))
    return float(torch.stack(scores).std()) * share**0.5


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return ((x @ y.T) / x.shape[1] + 1) ** 3
