"""Ensembles of verifiers, by rank or by weight: one is harder to exploit than its members alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.control import Control
from arzoo.samplers.loop import Model
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


class Ensemble(Verifier):
    """Several verifiers with weights; subclasses say how their scores become one.

    Args:
        verifiers: Verifiers, or functions of pictures.
        weights: One per verifier, not negative; equal by default.

    Raises:
        ArzooError: There is no verifier, or the weights are not one finite number per verifier.
    """

    range, relative = (0.0, 1.0), True

    def __init__(
        self,
        verifiers: Sequence[Verifier | Callable[[Tensor], Tensor]],
        weights: Sequence[float] | None = None,
    ) -> None:
        self.verifiers = [as_verifier(verifier) for verifier in verifiers]
        self.weights = [1.0] * len(self.verifiers) if weights is None else [float(w) for w in weights]
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

    def require(self, model: Model, control: Control | None = None) -> None:
        """As each of its verifiers."""
        for verifier in self.verifiers:
            verifier.require(model, control)

    def mean(self, candidates: Candidates, scale: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the weighted mean of the scaled scores (n,)."""
        scaled = [scale(scores_of(verifier, candidates)) for verifier in self.verifiers]
        total = sum(w * x for w, x in zip(self.weights, scaled, strict=True) if w)
        return torch.as_tensor(total) / sum(self.weights)


class RankEnsemble(Ensemble):
    """1 - the weighted mean rank divided by its largest value: 1 is best under every verifier, 0 worst under every one.

    "(1D) Ordered Tokens Enable Efficient Test-Time Search", 2026. Ranks are those within the candidates of one
    comparison, so scores of different comparisons cannot be compared.

    Args:
        verifiers: As `Ensemble`.
        weights: As `Ensemble`.
        published: Ties are broken as in the published code instead of shared.

    Raises:
        ArzooError: As `Ensemble`.
    """

    name = "ensemble"

    def __init__(
        self,
        verifiers: Sequence[Verifier | Callable[[Tensor], Tensor]],
        weights: Sequence[float] | None = None,
        published: bool = False,
    ) -> None:
        super().__init__(verifiers, weights)
        self.published = published

    def score(self, candidates: Candidates) -> Tensor:
        """Return the scores (n,), from 0 to 1."""
        mean = self.mean(candidates, lambda scores: ranks(scores, self.published))
        return 1 - mean / max(len(candidates.tokens.values) - 1, 1)


class WeightEnsemble(Ensemble):
    """Weighted mean of scores, each scaled so that it is 0 for the worst candidate of a comparison and 1 for the best.

    It keeps distances that ranks forget, so one verifier with outliers can decide alone. Scores of different
    comparisons cannot be compared.
    """

    name = "weighted"

    def score(self, candidates: Candidates) -> Tensor:
        """Return the scores (n,), from 0 to 1; -inf stays what it is."""
        return self.mean(candidates, scaled)


def scaled(scores: Tensor) -> Tensor:
    """Scale finite scores (n,) to 0..1; all become 0 if they differ by less than 1e-8."""
    finite = scores[scores.isfinite()]
    if not len(finite):
        return scores.clamp(max=1.0)
    low, high = finite.min(), finite.max()
    if high - low < 1e-8:
        return torch.where(scores.isfinite(), scores.new_zeros(()), scores.clamp(max=1.0))
    return ((scores - low) / (high - low)).clamp(max=1.0)
