"""Does a generator remember its training pictures? Distances to the nearest of them."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_distance(features: Tensor, reference: Tensor, batch: int = 256) -> Tensor:
    """Cosine distance (n,) of features (n, D) to the nearest of reference features (m, D)."""
    goal = torch.nn.functional.normalize(reference, dim=1)
    chunks = torch.nn.functional.normalize(features, dim=1).split(batch)
    return torch.cat([1 - (chunk @ goal.T).max(1).values for chunk in chunks])
