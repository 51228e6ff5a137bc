"""Standard errors by resampling pictures ("Bootstrap Methods: Another Look at the Jackknife", 1979)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

SEED = 0


def resamples(n: int, replicates: int, seed: int = SEED) -> Iterator[Tensor]:
    """Yield for each replicate how many times each of n pictures is taken, (n,) int64."""
    rng = torch.Generator().manual_seed(seed)
    for _ in range(replicates):
        yield torch.bincount(torch.randint(n, (n,), generator=rng), minlength=n)


def standard_error(score: Callable[[Tensor], float], n: int, replicates: int) -> float | None:
    """Return the standard deviation of a score over resamples of n pictures.

    Args:
        score: Function of how many times each picture is taken.
        n: Number of pictures.
        replicates: Number of resamples; fewer than 2 give None.
    """
    if replicates < 2 or n < 2:
        return None
    scores = [score(times) for times in resamples(n, replicates)]
    return float(torch.tensor(scores, dtype=torch.float64).std())


def error_of_mean(values: Tensor, replicates: int) -> float | None:
    """Return the standard error of the mean of values (n,)."""
    x = values.double()
    return standard_error(lambda times: float((x * times).sum() / times.sum()), len(x), replicates)
