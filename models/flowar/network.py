"""FlowAR: scale after scale, each drawn jointly by a flow head.

"FlowAR: Scale-wise Autoregressive Image Generation Meets Flow Matching", 2024. All scales are area means of one
ordinary latent picture. The inputs of a scale are drafts, computed from the scale before it: enlarged to the finest
size by bicubic interpolation and averaged down to its own; the first scale's input is the class. Drafts stay in the
cache, and a scale attends to the drafts of coarser scales and to its own. The output of the trunk conditions the head
(`FlowNet`).

Shapes: B samples, R rows, N positions, C channels, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.core.condition import Cond
from arzoo.core.contracts import Read
from arzoo.core.layout import Pyramid
from arzoo.core.plan import Plan
from arzoo.core.pyramid import picture, square_levels
from arzoo.core.state import State
from arzoo.core.tokens import Tokens, gather_positions
from arzoo.models.common.activations import silu
from arzoo.models.common.modulation import (
    ModulatedConfig,
    ModulatedTrunk,
    Modulation,
    initialise,
)


@dataclass(frozen=True, kw_only=True)
class FlowARConfig(ModulatedConfig):
    """Sizes of a `FlowAR`."""

    levels: tuple[int, ...] = (1, 2, 4, 8, 16)

    @property
    def layout(self) -> Pyramid:
        """Positions of the canvas."""
        return square_levels(self.levels)

    def build(self) -> FlowAR:
        """Build a network with fresh weights."""
        return FlowAR(self)


class FlowAR(ModulatedTrunk):
    """The backbone of FlowAR. Its canvas holds vectors (B, N, C), the levels one after another."""

    readouts, vector_head = frozenset({"draft"}), "flow_net"
    layout: Pyramid

    def __init__(self, config: FlowARConfig) -> None:
        super().__init__(config)
        self.output_positions = nn.Parameter(torch.zeros(self.layout.size, config.width))
        initialise(self)

    def draft(self, values: Tensor, level: int) -> Tensor:
        """Compute the inputs (B, n, C) of a level from the previous level of the canvas values (B, N, C)."""
        grid, finest = self.layout.levels[level], self.layout.levels[-1]
        large = F.interpolate(picture(values, self.layout, level - 1), (finest.h, finest.w), mode="bicubic")
        return F.adaptive_avg_pool2d(large, (grid.h, grid.w)).flatten(2).transpose(1, 2)

    def encode(
        self, values: Tensor, cond: Cond, levels: range, mask: Tensor | None, cache: list | None, fill: int
    ) -> Tensor:
        """Compute features (R, S, D) of consecutive levels, from canvas values (B, N, C) with R a multiple of B."""
        label = self.class_rows(cond)
        inputs = [label] if 0 in levels else []
        if drafts := [self.draft(values, level) for level in levels if level > 0]:
            inputs.append(self.embed(torch.cat(drafts, 1)).repeat(len(label) // len(values), 1, 1))
        first, last = self.layout.span(levels[0]).start, self.layout.span(levels[-1]).stop
        slots = torch.arange(first, last, device=values.device)[None]
        modulation = Modulation(silu(label))
        out = self.trunk(torch.cat(inputs, 1), slots, modulation, mask, cache, fill)
        return out + self.output_positions[slots]

    def features(self, tokens: Tokens, cond: Cond, plan: Plan) -> Read:
        """Compute all levels in parallel, each from the true previous level; `parts` are the levels."""
        positions = torch.arange(plan.layout.size, device=tokens.values.device)[None]
        levels = range(len(self.layout.levels))
        mask = plan.mask(positions, positions)[:, None]
        out = self.encode(tokens.values, cond, levels, mask, None, 0)[:, :, None]
        parts = [
            Read(positions[:, span], out[:, span]) for span in (self.layout.span(level) for level in levels)
        ]
        return Read(positions, out, parts=parts)

    def start(self, cond: Cond, plan: Plan, branches: int) -> State:
        """Allocate caches, and a buffer of features by position."""
        state = super().start(cond, plan, branches)
        state.tensors["features"] = self.bridge.weight.new_zeros(state.rows, plan.layout.size, self.width)
        return state

    def step(self, state: State, tokens: Tokens, step: int) -> Read:
        """Feed the drafts up to and including this level and read the level."""
        first = sum(self.layout.span(level).stop <= state.fill for level in range(len(self.layout.levels)))
        slots, ranks = state.pending(step + 1)
        if slots.shape[1]:
            mask = state.plan.mask(slots, state.seen())[:, None] if ranks > 1 else None
            levels = range(first, step + 1)
            out = self.encode(tokens.values, state.cond, levels, mask, state.kv, state.fill)
            index = slots.expand(state.rows, -1)[..., None].expand_as(out)
            state.tensors["features"].scatter_(1, index, out)
            state.fill += slots.shape[1]
        group = state.plan.groups[step]
        features = gather_positions(state.tensors["features"], state.repeat(group))[:, :, None]
        given = tokens.given.gather(1, group.expand(state.batch, -1))
        return Read(group, features, known=given, values=tokens.at(group))
