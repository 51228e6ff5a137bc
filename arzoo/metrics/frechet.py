"""Frechet distance between Gaussians fitted to features ("GANs Trained by a Two Time-Scale Update Rule", 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.errors import ArzooError


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
    def of(features: Tensor) -> Statistics:
        """Statistics of features (n, D)."""
        x = features.double()
        return Statistics(len(x), x.sum(0), x.T @ x)

    def merged(self, other: Statistics) -> Statistics:
        """Statistics of both sets."""
        return Statistics(self.count + other.count, self.total + other.total, self.products + other.products)

    @property
    def mean(self) -> Tensor:
        """(D,)."""
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """(D, D), divided by n - 1."""
        if self.count < 2:
            raise ArzooError(f"a covariance needs at least two pictures, got {self.count}")
        return (self.products - self.count * torch.outer(self.mean, self.mean)) / (self.count - 1)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|mean difference|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2)), the root taken symmetrically."""
    first, second = a.covariance, b.covariance
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    return float((a.mean - b.mean).square().sum() + first.trace() + second.trace() - 2 * cross)
