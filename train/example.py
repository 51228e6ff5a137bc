"""What a generator is shown and asked in training, and its loss on that.

Which tokens it sees follows from how it reads them:

* models that attend to all known tokens (MAR) see a random subset and are asked for the others, the ratio drawn once a
  step ("MAR", 2024, section 4);
* models that denoise in place (xAR) see every group as noisy as it is asked for ("Next-X Prediction", 2025, section
  3.2, noisy context learning), or clean (teacher forcing);
* all others see the true tokens that come earlier in the order, which the plan's mask takes care of.

Shapes: B samples, N positions, m positions asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Head, Read
from arzoo.core.draws import Draws, step_rng
from arzoo.core.plan import Plan
from arzoo.core.tokens import Tokens, gather_positions
from arzoo.samplers.plans.samples import ORDER
from arzoo.train.masking import masked_count
from arzoo.train.settings import LOWEST

Context = Literal["true", "noisy", "masked"]
_REPEATS = 4
"""Times a loss is measured that depends on random masks, times or noise."""


@dataclass(frozen=True)
class Example:
    """A micro-batch.

    Attributes:
        values: (B, N, ...) what is on the canvas; may be noisier than the targets.
        targets: (B, N, ...) what is to be predicted.
        cond: Conditions of the B samples.
        draws: Randomness of the head's loss.
        known: (B, N) bool, the values that may be seen; None is all.
        asked: (B, m) positions whose loss counts, in ascending order; None is all.
    """

    values: Tensor
    targets: Tensor
    cond: Cond
    draws: Draws
    known: Tensor | None = None
    asked: Tensor | None = None

    def to(self, device: torch.device | str) -> Example:
        """The same on another device; draws are made on the CPU and moved by who draws."""
        known, asked = (None if x is None else x.to(device) for x in (self.known, self.asked))
        values, targets = self.values.to(device), self.targets.to(device)
        return replace(
            self, values=values, targets=targets, cond=self.cond.to(device), known=known, asked=asked
        )


def context_of(backbone: Backbone, plan: Plan, noisy: bool) -> Context:
    """What a backbone sees of the tokens in training; `noisy` decides where there is a choice."""
    if plan.readout != "inplace":
        return "true"
    if backbone.bidirectional:
        return "masked"
    return "noisy" if noisy else "true"


def hide(
    example: Example, context: Context, draws: Draws, shared: torch.Generator, lowest: float = LOWEST
) -> Example:
    """An example whose canvas shows what the context allows.

    Args:
        example: Everything shown.
        context: What may be seen.
        draws: For "masked", which positions of a sample are hidden.
        shared: For "masked", how many; all samples of a step must have the same.
        lowest: For "masked", the least share that is hidden.
    """
    batch, positions = example.values.shape[:2]
    if context == "true":
        return example
    if context == "noisy":
        return replace(example, known=torch.zeros(batch, positions, dtype=torch.bool))
    count = masked_count(float(torch.rand((), generator=shared, dtype=torch.float64)), positions, lowest)
    return hide_some(example, count, draws)


def hide_some(example: Example, count: int, draws: Draws) -> Example:
    """An example that shows all but `count` positions of every sample, at random, and asks for those."""
    batch, positions = example.values.shape[:2]
    asked = draws.permutation(positions)[:, :count].sort(1).values
    known = torch.ones(batch, positions, dtype=torch.bool).scatter(1, asked, False)
    return replace(example, known=known, asked=asked)


def measured(values: Tensor, cond: Cond, rows: Tensor, context: Context) -> Iterator[Example]:
    """Examples on which a loss is measured: the same every time, and several where it is random.

    Args:
        values: (B, N, ...) clean tokens.
        cond: Their conditions.
        rows: (B,) numbers of the pictures, which decide times and noise.
        context: What the model sees.
    """
    for k in range(_REPEATS if context == "masked" or values.is_floating_point() else 1):
        draws = Draws(rows.tolist(), k)
        yield hide(Example(values, values, cond, draws), context, draws.at(ORDER - k), step_rng(k, 0))


class TokenLoss(nn.Module):
    """Backbone and head as one module whose forward is the loss, so that it can be wrapped and compiled.

    Attributes:
        sourced: (m,) positions that the plan predicts from something, where not all are: the loss leaves the others
            out, a constant that hides what is learned.
    """

    def __init__(self, backbone: Backbone, heads: Sequence[Head], plan: Plan) -> None:
        super().__init__()
        self.backbone, self.heads, self.plan = backbone, nn.ModuleList(heads), plan
        sourced = ~plan.unsourced[0]
        self.sourced = None if bool(sourced.all()) else sourced.nonzero()[:, 0]

    def forward(self, example: Example) -> Tensor:
        """Loss (B, m) of every token that is asked for and predicted from something."""
        head: Any = self.heads[0]
        return head.loss(*self.read(example), example.draws)

    def read(self, example: Example) -> tuple[Read, Tensor]:
        """Features of the m tokens of a sample that are asked for, and what is to be predicted, (B, m, ...)."""
        tokens, targets = Tokens.of(example.values, example.known), example.targets
        read = self.backbone.features(tokens, example.cond, self.plan)
        asked = example.asked
        if asked is None and self.sourced is not None:
            asked = self.sourced.to(targets.device).expand(len(targets), -1)
        if asked is None:
            return read, targets
        assert read.features is not None
        targets, available = gather_positions(targets, asked), read.available
        if available is not None:
            available = gather_positions(available.expand(len(asked), -1, -1), asked)
        features = gather_positions(read.features, asked)
        return replace(read, positions=asked, features=features, available=available), targets
