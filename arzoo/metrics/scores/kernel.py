"""Kernel distance ("Demystifying MMD GANs", 2018, section 4): unbiased, so it is meaningful for small samples."""

from __future__ import annotations

import torch
from torch import Tensor

from arzoo.metrics.scores.bootstrap import resamples

SUBSETS, SIZE = 100, 1000
"""Number of subsets, and pictures per side and subset, in published figures; see `subsets_of`."""
_MOST_RESAMPLED = 3000
"""Largest number of rows of the bootstrap's kernel matrices; of larger sets a part is resampled."""


def subsets_of(n: int, m: int, subsets: int = SUBSETS, size: int = SIZE) -> tuple[int, int]:
    """Return the number of subsets of n and m pictures, and the pictures per side and subset.

    A subset has no more pictures than the smaller set; a subset that is all of both sets is taken once.
    """
    size = min(size, n, m)
    return (1 if size == n == m else subsets), size


def subsets_in_words(n: int, m: int) -> str:
    """Describe the subsets that `kernel_distance` takes of n and m pictures."""
    subsets, size = subsets_of(n, m)
    if subsets == 1:
        return f"1 subset of {size}, all of both sets"
    return f"{subsets} subsets of {size}" + (", all of the smaller set" if size < SIZE else "")


def kernel_distance(a: Tensor, b: Tensor, subsets: int = SUBSETS, size: int = SIZE, seed: int = 0) -> float:
    """Return the mean over subsets of the unbiased squared MMD with the kernel (x.y / D + 1)^3.

    Args:
        a: (n, D) features.
        b: (m, D) features.
        subsets: Number of subsets, see `subsets_of`.
        size: Pictures per side and subset.
        seed: Seed of the subsets.
    """
    rng = torch.Generator().manual_seed(seed)
    subsets, size = subsets_of(len(a), len(b), subsets, size)
    scores = []
    for _ in range(subsets):
        x = a[torch.randperm(len(a), generator=rng)[:size]].double()
        y = b[torch.randperm(len(b), generator=rng)[:size]].double()
        scores.append(squared_mmd(x, y))
    return sum(scores) / len(scores)


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """Return the unbiased squared maximum mean discrepancy of features (n, D) and (n, D)."""
    n = len(x)
    xx, yy, xy = (_kernel(p, q) for p, q in ((x, x), (y, y), (x, y)))
    inside = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (n * (n - 1))
    return float(inside - 2 * xy.mean())


def kernel_distance_error(a: Tensor, b: Tensor, replicates: int) -> float | None:
    """Return the standard error of the kernel distance when the pictures of both sides are resampled.

    Pairs of a picture with itself are left out, also those that arise from resampling, so replicates are unbiased. For
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
