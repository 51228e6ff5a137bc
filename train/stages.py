"""Training examples and losses of plans with several stages, one per level of a pyramid (Hi-MAR, 2025, section 3).

All stages are trained at once: each hides tokens of its own level, and a stage sees of the earlier ones what its
backbone shows it (`Backbone.staged`). Published code hides more than half of the pivots, by the rule of MAR, and the
cosine of a uniform angle of the dense tokens.

Shapes: B samples, N positions, m hidden positions of all stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from arzoo.core.contracts import Head, Read
from arzoo.core.draws import Draws
from arzoo.core.plan import Plan
from arzoo.core.tokens import gather_positions
from arzoo.train.masking import cosine_count, masked_count


def hidden_counts(plan: Plan, shared: torch.Generator, lowest: float) -> list[int]:
    """Return the number of hidden tokens of each stage, which all samples of a step share.

    Args:
        plan: The order, with a stage per level.
        shared: Randomness of the step.
        lowest: Smallest share of hidden tokens in the first stage.
    """
    uniforms = torch.rand(plan.stages, generator=shared, dtype=torch.float64).tolist()
    sizes = [plan.stage_layout(stage).size for stage in range(plan.stages)]
    first = masked_count(uniforms[0], sizes[0], lowest)
    return [first, *(cosine_count(u, n) for u, n in zip(uniforms[1:], sizes[1:], strict=True))]


def hidden_tokens(plan: Plan, counts: Sequence[int], draws: Draws) -> Tensor:
    """Return the positions (B, m) of so many random tokens of each stage, in ascending order."""
    hidden = []
    for stage, count in enumerate(counts):
        span = plan.layout.span(stage)  # type: ignore[union-attr]
        order = draws.permutation(span.stop - span.start)
        hidden.append(order[:, :count].sort(1).values + span.start)
    return torch.cat(hidden, 1)


def stage_losses(
    heads: Iterable[Any], read: Read, targets: Tensor, asked: Tensor, counts: Sequence[int], draws: Draws
) -> Tensor:
    """Compute the loss (B, m) of the hidden tokens of all stages.

    Args:
        heads: One per stage.
        read: Output of `Backbone.staged`.
        targets: (B, N, ...) the canvas.
        asked: (B, m) from `hidden_tokens`.
        counts: How many of them each stage has.
        draws: Randomness of the heads.
    """
    assert read.stages is not None
    losses = []
    for head, part, own in zip(heads, read.stages, asked.split(tuple(counts), 1), strict=True):
        level = gather_positions(targets, part.positions)
        losses.append(asked_loss(head, part, level, own - part.positions[:, :1], draws))
    return torch.cat(losses, 1)


def asked_loss(head: Head, read: Read, targets: Tensor, asked: Tensor, draws: Draws) -> Tensor:
    """Compute the loss (B, m) of a head at entries (B, m) of a Read; a head that draws them together sees them all."""
    if "full" in head.needs:
        return gather_positions(head.loss(read, targets, draws), asked)
    assert read.features is not None
    positions = gather_positions(read.positions.expand(len(asked), -1), asked)
    features = gather_positions(read.features, asked)
    part = replace(read, positions=positions, features=features, known=None, values=None)
    return head.loss(part, gather_positions(targets, asked), draws)


def stage_weights(
    plan: Plan, heads: Sequence[Head], weights: Sequence[float], counts: Sequence[int]
) -> Tensor:
    """Return factors (m,) of the losses of hidden tokens, whose mean then is the published loss.

    That is the sum of the stages' losses, each weighted by the share of its tokens and a factor. A loss is the mean
    over hidden tokens; of a head that draws all tokens together it is their sum over the number of all tokens.

    Args:
        plan: The order, with a stage per level.
        heads: One per stage.
        weights: Factor of each stage, `Backbone.stage_weights`.
        counts: Hidden tokens of each stage.
    """
    parts = []
    for stage, (head, weight, count) in enumerate(zip(heads, weights, counts, strict=True)):
        size = plan.stage_layout(stage).size
        over = size if "full" in head.needs else count
        parts.append(torch.full((count,), weight * size / plan.layout.size * sum(counts) / over))
    return torch.cat(parts)
