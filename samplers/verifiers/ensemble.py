"""Ensemble of verifiers by rank: scales of the single scores do not matter, and none can be exploited alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.samplers.verifiers.base import Candidates, Verifier, as_verifier, scores_of


def ranks(scores: Tensor, published: bool = False) -> Tensor:
    """Ranks (n,) of scores (n,), 0 for the best.

    Args:
        scores: Higher is better.
        published: Equal scores get different ranks, in their order; by default they share their mean.
    """
    if published:
        order = scores.argsort(descending=True, stable=True)
        return torch.empty_like(order).scatter_(0, order, torch.arange(len(order))).float()
    ascending = scores.sort().values
    above = len(scores) - torch.searchsorted(ascending, scores.contiguous(), right=True)
    not_below = len(scores) - torch.searchsorted(ascending, scores.contiguous())
    return (above + not_below - 1) / 2


class RankEnsemble(Verifier):
    """1 - the weighted mean rank divided by its largest value: 1 is best under every verifier, 0 worst under every one.

    "(1D) Ordered Tokens Enable Efficient Test-Time Search", 2026. Ranks are those within the candidates of one
    comparison, so scores of different comparisons cannot be compared.

    Args:
        verifiers: Verifiers, or functions of pictures.
        weights: One per verifier, not negative; equal by default.
        published: Ties are broken as in the published code instead of shared.

    Raises:
        ArzooError: There is no verifier, or the weights are not one finite number per verifier.
    """

    name, range = "ensemble", (0.0, 1.0)

    def __init__(
        self,
        verifiers: Sequence[Verifier | Callable[[Tensor], Tensor]],
        weights: Sequence[float] | None = None,
        published: bool = False,
    ) -> None:
        self.verifiers = [as_verifier(verifier) for verifier in verifiers]
        self.weights = [1.0] * len(self.verifiers) if weights is None else [float(w) for w in weights]
        self.published = published
        if not self.verifiers:
            raise ArzooError("an ensemble needs at least one verifier, got none")
        valid = len(self.weights) == len(self.verifiers) and sum(self.weights) > 0
        if not (valid and all(0 <= weight < math.inf for weight in self.weights)):
            raise ArzooError(
                f"an ensemble of {len(self.verifiers)} verifiers needs as many weights, finite, not negative and not "
                f"all 0, got {self.weights}"
            )
        self.pictures = any(verifier.pictures for verifier in self.verifiers)
        self.calls = sum(verifier.calls for verifier in self.verifiers)
        self.needs = frozenset().union(*(verifier.needs for verifier in self.verifiers))
        self.networks = frozenset().union(*(verifier.networks for verifier in self.verifiers))

    def score(self, candidates: Candidates) -> Tensor:
        """Return the scores (n,), from 0 to 1."""
        every = [ranks(scores_of(verifier, candidates), self.published) for verifier in self.verifiers]
        mean = sum(w * rank for w, rank in zip(self.weights, every, strict=True)) / sum(self.weights)
        return 1 - torch.as_tensor(mean) / max(len(candidates.tokens.values) - 1, 1)
