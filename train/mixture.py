"""Losses of a mixture: hidden tokens, the next token, and all later ones, from the features of one causal network.

Ours, after "TokenUnify: Scaling Up Autoregressive Pretraining for Neuron Segmentation", 2025. The published
network is a U-Net of voxels that blanks patches of its input, and no generator. Here the three predictions train a
causal generator of codes or vectors, and its head computes all three losses:

* *next*: each token from the features of those before it, as always;
* *next all*: from the same features, tokens further on. A `Resampler` turns the features into those of the place that
  is asked for. There are N (N - 1) / 2 pairs of a prefix and a later token; `PAIRS` of them are drawn per sample, all
  alike, so the loss is an unbiased estimate of the mean over all pairs. The next token itself is not among them;
* *random*: a second pass in which random tokens are hidden: they are fed as their position alone. The loss is that of
  the hidden tokens. A causal pass does not see what follows them, so this is no filling in from both sides: it is the
  next token after a prefix with gaps. The share of hidden tokens is uniform in [0.2, 0.8], as published, and all
  samples of a step have the same, as in masked models.

Shapes: B samples, N positions, m predicted positions or pairs, H readouts, D width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.base.registry import called
from arzoo.core.contracts import Backbone, Head, Read
from arzoo.core.draws import Draws
from arzoo.core.plan import Plan
from arzoo.core.tokens import gather_positions
from arzoo.generation.generator import Generator
from arzoo.models.common.activations import silu
from arzoo.train.curriculum import Mixture
from arzoo.train.example import Example, TokenLoss, draws_singly, hide_some

PAIRS = 32
"""Pairs of a prefix and a later token per sample and step."""


@dataclass(frozen=True)
class MixedExample:
    """A micro-batch for a mixture of losses.

    Attributes:
        plain: All tokens visible.
        hidden: The same with some tokens hidden, which are asked for; None without that loss.
        pairs: (B, m, 2) ranks: tokens before the first one are seen, that of the second one is asked for; None without
            that loss.
    """

    plain: Example
    hidden: Example | None
    pairs: Tensor | None

    def to(self, device: torch.device | str) -> MixedExample:
        """Return the example on another device."""
        hidden = None if self.hidden is None else self.hidden.to(device)
        pairs = None if self.pairs is None else self.pairs.to(device)
        return MixedExample(self.plain.to(device), hidden, pairs)


def mixed(example: Example, terms: Collection[str], draws: Draws, share: float) -> MixedExample:
    """Draw what the losses of a mixture need beside an example.

    Args:
        example: The example with all tokens visible.
        terms: The losses, see `curriculum.TERMS`.
        draws: Randomness of the samples, which nothing else uses.
        share: Share of hidden tokens.
    """
    positions, hidden, pairs = example.values.shape[1], None, None
    if "next_all" in terms:
        pairs = later_pairs(draws, positions)
    if "random" in terms:
        count = min(max(int(share * positions), 1), positions)
        hidden = replace(hide_some(example, count, draws), draws=draws)
    return MixedExample(example, hidden, pairs)


def later_pairs(draws: Draws, positions: int, count: int = PAIRS) -> Tensor:
    """Draw pairs (B, m, 2) of ranks below `positions`, the smaller one first; every pair is equally likely."""
    one = draws.integers((draws.batch, count), positions)
    other = draws.integers((draws.batch, count), positions - 1)
    other = other + (other >= one)
    return torch.stack([torch.minimum(one, other), torch.maximum(one, other)], -1)


class Resampler(nn.Module):
    """Turn the features that predict the next token into features that predict the token of another place.

    The place is a query to the features of a prefix. Of a recurrent network these are one vector, the summary of all it
    has read, and attention to a single key returns its value whatever the query is; so the query enters the hidden
    layer of a residual perceptron instead. It is part of the training alone.

    Args:
        width: D.
        positions: N.
    """

    def __init__(self, width: int, positions: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, 1e-5)
        self.place = nn.Embedding(positions, 2 * width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        nn.init.normal_(self.place.weight, std=0.02)

    def forward(self, features: Tensor, asked: Tensor) -> Tensor:
        """Features (B, m, H, D) for the positions (B, m) that are asked for, from those of prefixes, (B, m, H, D)."""
        hidden = self.fc1(self.norm(features)) + self.place(asked)[:, :, None]
        return features + self.fc2(silu(hidden))


class MixedLoss(TokenLoss):
    """Backbone, head and resampler as one module whose forward is the losses of a mixture.

    Args:
        backbone: The backbone.
        heads: Its head.
        plan: An order of single tokens.
        terms: The losses, see `curriculum.TERMS`.
    """

    def __init__(self, backbone: Backbone, heads: Sequence[Head], plan: Plan, terms: Collection[str]) -> None:
        super().__init__(backbone, heads, plan)
        self.terms = frozenset(terms)
        later = "next_all" in self.terms
        self.resampler = Resampler(backbone.width, plan.layout.size) if later else None

    def forward(self, example: Any) -> Any:
        """Compute the losses by name, each (B, m); of a plain `Example`, the loss (B, m) of the next token."""
        if isinstance(example, Example):
            return super().forward(example)
        head: Any = self.heads[0]
        losses: dict[str, Tensor] = {}
        if self.terms & {"next", "next_all"}:
            read, targets = self.read(example.plain)
            if "next" in self.terms:
                losses["next"] = head.loss(read, targets, example.plain.draws)
            if example.pairs is not None:
                losses["next_all"] = head.loss(*self._later(read, example), example.plain.draws)
        if example.hidden is not None:
            losses["random"] = super().forward(example.hidden)
        return losses

    def _later(self, read: Read, example: MixedExample) -> tuple[Read, Tensor]:
        """Return features of the later tokens of the pairs, and these tokens (B, m, ...)."""
        assert self.resampler is not None
        assert example.pairs is not None
        assert read.features is not None
        targets, plan = example.plain.targets, example.plain.plan or self.plan
        order = torch.cat(plan.groups, 1).expand(len(targets), -1)
        before, asked = (order.gather(1, ranks) for ranks in example.pairs.unbind(-1))
        features = self.resampler(gather_positions(read.features, before), asked)
        return replace(read, positions=asked, features=features), gather_positions(targets, asked)


def refuse_mixture(model: Generator, plan: Plan, mixture: Mixture) -> None:
    """Refuse a mixture of losses that means nothing for a generator.

    Raises:
        ArzooError: The plan is none of single tokens one after another, pictures have unlike numbers of tokens, or
            tokens cannot be hidden from the backbone.
    """
    if not draws_singly(plan) or plan.layout.size < 2:
        raise ArzooError(
            f"generator.mixture is for causal models, which draw one token after another in one order for all samples, "
            f"such as raster; plan {plan} does not. Use such a plan, or leave mixture out."
        )
    if model.spec.ends:
        raise ArzooError(
            "generator.mixture hides and asks for tokens anywhere, and in pictures of unlike numbers of tokens those "
            "after the end mean nothing: leave mixture out, or train on tokens of a fixed number"
        )
    if "random" in mixture.terms and not model.backbone.hides:
        raise ArzooError(
            f"generator.mixture hides random tokens, and backbone {called(model.backbone)} cannot feed a hidden token: "
            "use a Mamba, such as mamba_tiny, or give only next and next_all a weight"
        )
