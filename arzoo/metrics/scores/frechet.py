"""Frechet distance between Gaussians fitted to features ("GANs Trained by a Two Time-Scale Update Rule", 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError


@dataclass
class Statistics:
    """Running mean and covariance in float64.

    Attributes:
        count: Features seen.
        total: (D,) their sum.
        products: (D, D) sum of their outer products.
    """

    count: int
    total: Tensor
    products: Tensor

    @staticmethod
    def of(features: Tensor, times: Tensor | None = None) -> Statistics:
        """Compute the statistics of features (n, D), each taken `times` (n,) times, once by default."""
        x = features.double()
        if times is None:
            return Statistics(len(x), x.sum(0), x.T @ x)
        weighted = x * times.double()[:, None]
        return Statistics(int(times.sum()), weighted.sum(0), x.T @ weighted)

    @property
    def mean(self) -> Tensor:
        """Mean (D,)."""
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """Covariance (D, D), divided by n - 1."""
        return self.covariance_over(1)

    def covariance_over(self, ddof: int) -> Tensor:
        """Covariance (D, D), divided by n - ddof."""
        if self.count < 2:
            raise ArzooError(f"a covariance needs at least two pictures, got {self.count}")
        return (self.products - self.count * torch.outer(self.mean, self.mean)) / (self.count - ddof)


@dataclass(frozen=True)
class Gaussian:
    """Stored statistics.

    Attributes:
        mean: (D,) float64.
        covariance: (D, D) float64, divided by n - 1.
        count: Number n of features, None if it is not recorded.
    """

    mean: Tensor
    covariance: Tensor
    count: int | None = None

    def covariance_over(self, ddof: int) -> Tensor:
        """Covariance (D, D), divided by n - ddof.

        Raises:
            ArzooError: n is not recorded, so the stored covariance cannot be changed.
        """
        if ddof == 1:
            return self.covariance
        if self.count is None:
            raise ArzooError(
                f"covariances over n - {ddof} are to be compared, and stored statistics, which are over n - 1, do not "
                "say n. Make them again: arzoo evaluate SAMPLES --save-statistics FILE.npz"
            )
        return self.covariance * ((self.count - 1) / (self.count - ddof))


class FrechetFrom:
    """Frechet distances from one set, whose matrix root is computed once.

    Eigenvalues as small as rounding errors count as 0: with fewer pictures than features there are many of them, and
    their roots would add up.

    Args:
        one: Statistics of the set.
        ddof: Covariances are divided by n minus this.
    """

    def __init__(self, one: Statistics | Gaussian, ddof: int = 1) -> None:
        self.mean, self.covariance, self.ddof = one.mean, one.covariance_over(ddof), ddof
        self.trace = self.covariance.trace()
        values, vectors = torch.linalg.eigh(self.covariance)
        real = values > _noise(values)
        self.root = vectors[:, real] * values[real].sqrt()

    def __call__(self, other: Statistics | Gaussian) -> float:
        """Return |mean difference|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2)), the last root taken symmetrically."""
        covariance = other.covariance_over(self.ddof)
        cross = _sum_of_roots(self.root.T @ covariance @ self.root)
        shift = (self.mean - other.mean).square().sum()
        return float(shift + self.trace + covariance.trace() - 2 * cross)

    def of_resamples(self, features: Tensor) -> Callable[[Tensor], float]:
        """Return the distance of features (n, D) as a function of how many times each of them is taken.

        With fewer features than dimensions, the roots are those of an n x n matrix: A and B of low rank give the same
        eigenvalues whichever way round they are multiplied.
        """
        x = features.double()
        if len(x) > x.shape[1]:
            return lambda times: self(Statistics.of(x, times))
        inner, squares = x @ self.covariance @ x.T, x.square().sum(1)

        def distance(times: Tensor) -> float:
            rows = times.nonzero()[:, 0]
            w, n = times[rows].double(), int(times.sum())
            mean = w @ x[rows] / n
            toward = inner[rows][:, rows] @ w / n
            centred = inner[rows][:, rows] - toward[:, None] - toward + w @ toward / n
            scale = (w / (n - self.ddof)).sqrt()
            cross = _sum_of_roots(centred * scale[:, None] * scale)
            trace = (w @ squares[rows] - n * mean.square().sum()) / (n - self.ddof)
            return float((self.mean - mean).square().sum() + self.trace + trace - 2 * cross)

        return distance


def _sum_of_roots(matrix: Tensor) -> Tensor:
    """Return the sum of the roots of the eigenvalues of a symmetric matrix without negative ones."""
    values = torch.linalg.eigvalsh(matrix)
    return values[values > _noise(values)].sqrt().sum()


def _noise(values: Tensor) -> Tensor:
    """Return the size of rounding errors of an eigenvalue of 0 beside these."""
    return values.abs().max() * len(values) * torch.finfo(values.dtype).eps if len(values) else values.sum()


def frechet_distance(a: Statistics | Gaussian, b: Statistics | Gaussian, ddof: int = 1) -> float:
    """Return the Frechet distance of two sets, with covariances over n - ddof."""
    return FrechetFrom(a, ddof)(b)
