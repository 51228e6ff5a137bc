"""Neighbors in feature space: precision and recall, density and coverage, and the nearest training picture.

"Improved Precision and Recall Metric for Assessing Generative Models", 2019, and "Reliable Fidelity and Diversity
Metrics for Generative Models", 2020. Each point has a ball that reaches its k-th neighbor in the same set.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK = 1024


class Balls(NamedTuple):
    """Counts of points in balls.

    Attributes:
        inside: (n,) for each point, the number of balls of the other set that hold it.
        hit: (m,) bool, whether each ball of the other set holds any point.
    """

    inside: Tensor
    hit: Tensor


def radii(points: Tensor, k: int) -> Tensor:
    """Return the distance (n,) of each point (n, D) to its k-th neighbor, itself not counted, k at most n - 1."""
    k = min(k, len(points) - 1)
    blocks = points.double().split(_BLOCK)
    return torch.cat([_distances(block, points).kthvalue(k + 1, dim=1).values for block in blocks])


def balls(points: Tensor, centers: Tensor, reach: Tensor, closed: bool) -> Balls:
    """Count points (n, D) in the balls around centers (m, D) of radius (m,); a closed ball includes its surface."""
    inside, hit = [], torch.zeros(len(centers), dtype=torch.bool)
    for block in points.double().split(_BLOCK):
        distances = _distances(block, centers)
        held = distances <= reach if closed else distances < reach
        inside.append(held.sum(1))
        hit |= held.any(0)
    return Balls(torch.cat(inside), hit)


def nearest_distance(features: Tensor, reference: Tensor, batch: int = 256) -> Tensor:
    """Return the cosine distance (n,) of features (n, D) to the nearest of reference features (m, D)."""
    directions = torch.nn.functional.normalize(
        reference.double(), dim=1
    )  # in float32 a copy is up to 1e-6 away
    chunks = torch.nn.functional.normalize(features.double(), dim=1).split(batch)
    return torch.cat([1 - (chunk @ directions.T).max(1).values for chunk in chunks])


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Return Euclidean distances in float64, by a matrix product, as the sets are too large for differences."""
    return torch.cdist(x.double(), y.double(), compute_mode="use_mm_for_euclid_dist")
