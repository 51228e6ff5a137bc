"""Training examples of generators: visible tokens and targets, and the loss on them.

Which tokens are visible depends on the model:

* models that attend to all known tokens (MAR) see a random subset and predict the others; the ratio is drawn once per
  step ("MAR", 2024, section 4);
* models that denoise in place (xAR) see every group with the noise it is denoised from ("Next-X Prediction", 2025,
  section 3.2, noisy context learning), or clean (teacher forcing);
* all others see the true tokens that come earlier in the order, by the mask of the plan.

Shapes: B samples, N positions, m predicted positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Head, Read
from arzoo.core.draws import Draws, step_rng
from arzoo.core.plan import Plan
from arzoo.core.tokens import Tokens, gather_positions
from arzoo.samplers.plans.samples import ORDER
from arzoo.samplers.plans.shifted import custom
from arzoo.train.masking import masked_count
from arzoo.train.settings import LOWEST
from arzoo.train.stages import asked_loss, hidden_counts, hidden_tokens, stage_losses

Context = Literal["true", "noisy", "masked"]
_REPEATS = 4
"""Number of draws over which a loss with random masks, times or noise is averaged in validation."""


@dataclass(frozen=True)
class Example:
    """A micro-batch.

    Attributes:
        values: (B, N, ...) values on the canvas; may be noisier than the targets.
        targets: (B, N, ...) values to predict.
        cond: Conditions of the B samples.
        draws: Randomness of the head's loss.
        known: (B, N) bool, visible values; None means all.
        asked: (B, m) positions whose loss counts, in ascending order; None means all.
        plan: Orders of these samples, if they are not that of the generator.
        counts: For plans of several stages, how many of the asked positions are in each.
        later: Conditions of the later stages, by default those of the first.
        unseen: (B,) bool, samples of which later stages see nothing of the earlier ones; None means of none.
    """

    values: Tensor
    targets: Tensor
    cond: Cond
    draws: Draws
    known: Tensor | None = None
    asked: Tensor | None = None
    plan: Plan | None = None
    counts: tuple[int, ...] = ()
    later: Cond | None = None
    unseen: Tensor | None = None

    def to(self, device: torch.device | str) -> Example:
        """Return the example on another device; random numbers are still drawn on the CPU."""
        known, asked, unseen = (
            None if x is None else x.to(device) for x in (self.known, self.asked, self.unseen)
        )
        values, targets = self.values.to(device), self.targets.to(device)
        plan = None if self.plan is None else self.plan.to(device)
        return replace(
            self,
            values=values,
            targets=targets,
            cond=self.cond.to(device),
            known=known,
            asked=asked,
            plan=plan,
            later=None if self.later is None else self.later.to(device),
            unseen=unseen,
        )


def context_of(backbone: Backbone, plan: Plan, noisy: bool) -> Context:
    """Return how a backbone sees tokens in training; `noisy` chooses for models that denoise in place."""
    if plan.readout != "inplace":
        return "true"
    if backbone.bidirectional:
        return "masked"
    return "noisy" if noisy else "true"


def hide(
    example: Example,
    context: Context,
    draws: Draws,
    shared: torch.Generator,
    lowest: float = LOWEST,
    plan: Plan | None = None,
) -> Example:
    """Return an example whose canvas shows what the context allows.

    Args:
        example: The example with all values visible.
        context: Which values may be visible.
        draws: For "masked", randomness of the hidden positions of every sample.
        shared: For "masked", randomness of their number, which all samples of a step share.
        lowest: For "masked", the smallest share of hidden positions.
        plan: For "masked", the order, if it has several stages.
    """
    batch, positions = example.values.shape[:2]
    if context == "true":
        return example
    if context == "noisy":
        return replace(example, known=torch.zeros(batch, positions, dtype=torch.bool))
    if plan is not None and plan.stages > 1:
        return hide_stages(example, plan, hidden_counts(plan, shared, lowest), draws)
    count = masked_count(float(torch.rand((), generator=shared, dtype=torch.float64)), positions, lowest)
    return hide_some(example, count, draws)


def hide_some(example: Example, count: int, draws: Draws) -> Example:
    """Return an example in which `count` random positions of every sample are hidden and predicted."""
    batch, positions = example.values.shape[:2]
    asked = draws.permutation(positions)[:, :count].sort(1).values
    known = torch.ones(batch, positions, dtype=torch.bool).scatter(1, asked, False)
    return replace(example, known=known, asked=asked)


def hide_stages(example: Example, plan: Plan, counts: Sequence[int], draws: Draws) -> Example:
    """Return an example in which so many random positions of each stage are hidden and predicted."""
    asked = hidden_tokens(plan, counts, draws)
    known = torch.ones(example.values.shape[:2], dtype=torch.bool).scatter(1, asked, False)
    return replace(example, known=known, asked=asked, counts=tuple(counts))


def draws_singly(plan: Plan) -> bool:
    """Return whether each token is predicted by the one before it, in one order for all samples."""
    single = (
        plan.readout == "shifted" and len(plan) == plan.layout.size and plan.axes == 1 and not plan.extras
    )
    return single and len(plan.rank.view(-1, plan.layout.size)) == 1


def refuse_groups(plan: Plan) -> None:
    """Raise an ArzooError for a plan that cannot be shuffled: each token must be predicted by the one before it."""
    if not draws_singly(plan):
        raise ArzooError(
            f"generator.random_orders shuffles the tokens of a plan that draws one after another, in one order for all "
            f"samples, such as raster; plan {plan} does not. Use such a plan, or leave random_orders out."
        )


def shuffled(plan: Plan, draws: Draws, share: float) -> Plan | None:
    """Return orders of samples that are random with a probability, and otherwise that of the plan; None for the latter.

    Args:
        plan: An order of single tokens, the same for all samples.
        draws: Randomness of every sample.
        share: The probability.
    """
    if share == 0:
        return None
    own = torch.cat(plan.groups, 1)
    random = draws.permutation(plan.layout.size)
    return custom(plan.layout, torch.where(draws.uniform((draws.batch, 1)) < share, random, own))


def validation_examples(
    values: Tensor, cond: Cond, rows: Tensor, context: Context, plan: Plan | None = None
) -> Iterator[Example]:
    """Yield fixed examples for validation: one, or several with different draws where the loss is random.

    Args:
        values: (B, N, ...) clean tokens.
        cond: Their conditions.
        rows: (B,) numbers of the pictures, which seed masks, times and noise.
        context: How the model sees tokens.
        plan: See `hide`.
    """
    for k in range(_REPEATS if context == "masked" or values.is_floating_point() else 1):
        draws = Draws(rows.tolist(), k)
        example = Example(values, values, cond, draws)
        yield hide(example, context, draws.at(ORDER - k), step_rng(k, 0), plan=plan)


class TokenLoss(nn.Module):
    """Backbone and head as one module whose forward is the loss, so that it can be wrapped and compiled.

    Attributes:
        sourced: (m,) positions that the plan predicts from an input, or None if it does so for all. The loss leaves the
            others out, since their constant loss would hide progress.
    """

    def __init__(self, backbone: Backbone, heads: Sequence[Head], plan: Plan) -> None:
        super().__init__()
        self.backbone, self.heads, self.plan = backbone, nn.ModuleList(heads), plan
        sourced = ~plan.unsourced[0]
        self.sourced = None if bool(sourced.all()) else sourced.nonzero()[:, 0]

    def forward(self, example: Example) -> Tensor:
        """Compute the loss (B, m) of every predicted token that has an input."""
        head: Any = self.heads[0]
        if self.plan.stages == 1 and "full" not in head.needs:
            return head.loss(*self.read(example), example.draws)
        tokens, asked = Tokens.of(example.values, example.known), example.asked
        assert asked is not None, "only masked models draw in stages or whole grids"
        if self.plan.stages == 1:
            read = self.backbone.features(tokens, example.cond, example.plan or self.plan)
            return asked_loss(head, read, example.targets, asked, example.draws)
        conds = [example.cond, *[example.later or example.cond] * (self.plan.stages - 1)]
        read = self.backbone.staged(tokens, conds, example.unseen)
        return stage_losses(self.heads, read, example.targets, asked, example.counts, example.draws)

    def read(self, example: Example) -> tuple[Read, Tensor]:
        """Compute features of the m predicted tokens of every sample; return them and the targets (B, m, ...)."""
        tokens, targets = Tokens.of(example.values, example.known), example.targets
        self.plan = self.plan.to(targets.device)
        read = self.backbone.features(tokens, example.cond, example.plan or self.plan)
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
