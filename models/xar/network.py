"""xAR: next-X prediction, where the backbone itself is the velocity field of a flow.

"Beyond Next-Token: Next-X Prediction for Autoregressive Visual Generation", 2025. X is a plan over one and the same
network: `cells` (the published one; with as many regions as the grid has rows X is a single token in raster order),
`subsamples`, `whole`, and, over a pyramid, `scales` read in place.

When sampling, a group is a query of noisy tokens at time t: it attends to the cache of finished groups, which were fed
once with time 0, and to itself, and is not kept. In training the known tokens of the canvas decide the contexts:

* nothing known (`Tokens.of(values, none)`): each group is context and target at once, noisy with its own time.
  This is the paper's noisy context learning (section 3.2), one pass over N tokens;
* everything known: clean contexts beside noisy targets, one pass over 2N tokens (teacher forcing).

Class and time form one condition per group; the time is embedded as trunc(1000 t), with the product rounded in float32,
so clean context is 0 and pure noise 1000.

Shapes: B samples, R rows, N positions, m positions of a group, C channels, D width, K groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arzoo.core.condition import Cond
from arzoo.core.contracts import Read
from arzoo.core.plan import Plan
from arzoo.core.state import State
from arzoo.core.tokens import Tokens
from arzoo.models.common.activations import silu
from arzoo.models.common.embeddings import TimeEmbedding, time_tensor
from arzoo.models.common.modulation import (
    ModulatedConfig,
    ModulatedTrunk,
    Modulation,
    initialise,
    time_index,
)


@dataclass(frozen=True, kw_only=True)
class XARConfig(ModulatedConfig):
    """Sizes of an `XAR`."""

    def build(self) -> XAR:
        """Build a network with fresh weights."""
        return XAR(self)


class XAR(ModulatedTrunk):
    """The backbone of xAR. Its canvas holds vectors (B, N, C)."""

    readouts, gives, vector_head = frozenset({"inplace"}), frozenset({"query"}), "backbone_flow"

    def __init__(self, config: XARConfig) -> None:
        super().__init__(config)
        self.time = TimeEmbedding(config.width)
        self.output = nn.Linear(config.width, config.channels)
        initialise(self)

    def velocity(
        self,
        x: Tensor,
        slots: Tensor,
        modulation: Modulation,
        mask: Tensor | None,
        cache: list | None = None,
        fill: int = 0,
    ) -> Tensor:
        """Predict noise minus data (R, S, C) at slots (1 or R, S); arguments as those of `trunk`, x (R, S, C)."""
        return self.output(self.trunk(self.embed(x), slots, modulation, mask, cache, fill))

    def modulation(self, cond: Cond, times: Tensor, index: Tensor | None = None) -> Modulation:
        """Compute the condition of class and times (1 or R, U), spread over tokens by an index (1 or R, S)."""
        return Modulation(silu(self.class_rows(cond) + self.time(time_index(times))), index)

    def features(self, tokens: Tokens, cond: Cond, plan: Plan) -> Read:
        """Prepare a parallel pass.

        Contexts are the clean tokens where `tokens.known`, and the query's noisy tokens elsewhere.

        Returns:
            A Read whose `query` takes x (B, N, C) and t, a number or (1 or B, N), equal inside a group; `parts` are the
            groups.
        """
        positions = torch.arange(plan.layout.size, device=tokens.values.device)[None]
        rank, known = plan.slot_rank, tokens.known
        # Any position of a group has the group's time; ranks start at -1.
        member = rank.new_zeros(len(rank), len(plan) + 1)
        member.scatter_(1, rank + 1, positions.expand(len(rank), -1))
        own = rank[:, :, None] == rank[:, None]
        lower = rank[:, :, None] > rank[:, None]
        noisy = not bool(known.any())

        def query(x: Tensor, t: Tensor | float) -> Tensor:
            times = time_tensor(t, x.device).expand(len(x), x.shape[1])
            times = times.gather(1, member.expand(len(x), -1))
            if noisy:
                modulation = self.modulation(cond, times, rank + 1)
                return self.velocity(x, positions, modulation, (own | lower)[:, None])
            times = torch.cat([times.new_zeros(len(x), 1), times], 1)
            index = (rank + 2).expand(len(x), -1)
            modulation = self.modulation(cond, times, torch.cat([index.masked_fill(known, 0), index], 1))
            context = torch.where(known[..., None], tokens.values, x)
            none = torch.zeros_like(own)
            mask = torch.cat([torch.cat([own | lower, none], 2), torch.cat([lower, own], 2)], 1)
            both = self.velocity(
                torch.cat([context, x], 1), positions.repeat(1, 2), modulation, mask[:, None]
            )
            return both[:, x.shape[1] :]

        return Read(positions, query=query, parts=[Read(group) for group in plan.groups])

    def step(self, state: State, tokens: Tokens, step: int) -> Read:
        """Feed the groups committed since the last call at time 0; queries of the Read do not change the cache."""
        slots, ranks = state.pending(step)
        if slots.shape[1]:
            x = state.repeat(tokens.at(slots[: state.batch]))
            mask = state.plan.mask(slots, state.seen())[:, None] if ranks > 1 else None
            modulation = self.modulation(state.cond, x.new_zeros(1, 1))
            self.trunk(self.embed(x), slots, modulation, mask, state.kv, state.fill)
            state.fill += slots.shape[1]
        group, fill = state.plan.groups[step], state.fill
        positions, given = state.repeat(group), group.expand(state.batch, -1)

        def query(x: Tensor, t: Tensor | float) -> Tensor:
            assert state.fill == fill, (
                "a Read is valid until the next step, which overwrites its place in the cache"
            )
            rows = torch.arange(state.rows, device=x.device)[: len(x)]
            cache = [(keys[: len(x)], values[: len(x)]) for keys, values in state.kv]
            modulation = self.modulation(state.cond.select(rows), time_tensor(t, x.device).reshape(-1, 1))
            return self.velocity(x, positions[: len(x)], modulation, None, cache, fill)

        return Read(group, query=query, known=tokens.given.gather(1, given), values=tokens.at(group))
