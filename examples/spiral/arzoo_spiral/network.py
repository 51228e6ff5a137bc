"""A recurrent backbone: one GRU reads the tokens in the order of the plan.

Shapes: R rows, N positions, S slots, m positions of a group, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arzoo.core.canvas import BackboneConfig
from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Read
from arzoo.core.layout import Grid
from arzoo.core.plan import Plan
from arzoo.core.state import State
from arzoo.core.tokens import Tokens, gather_positions


@dataclass(frozen=True, kw_only=True)
class GRUConfig(BackboneConfig):
    """Sizes of a `GRUBackbone`.

    Attributes:
        width: Channels.
        vocab: Number of codes of the tokenizer.
        classes: Number of classes.
        grid: (t, h, w) of the token canvas.
    """

    width: int = 64
    vocab: int = 1024
    classes: int = 10
    grid: tuple[int, int, int] = (1, 8, 8)

    @property
    def layout(self) -> Grid:
        """Positions of the canvas."""
        return Grid(*self.grid)

    def build(self) -> GRUBackbone:
        """Build a network with newly initialized weights."""
        return GRUBackbone(self)


def gru_tiny() -> GRUConfig:
    """A GRU of 64 channels."""
    return GRUConfig()


class GRUBackbone(Backbone):
    """A GRU over tokens in the order of the plan; its hidden state starts as the embedding of the class."""

    recurrent = True

    def __init__(self, config: GRUConfig) -> None:
        super().__init__()
        self.config, self.width = config, config.width
        self.label = nn.Embedding(config.classes + 1, config.width)  # the last row is the null class
        self.token = nn.Embedding(config.vocab, config.width)
        self.place = nn.Embedding(config.layout.size, config.width)
        self.gru = nn.GRU(config.width, config.width, batch_first=True)

    def features(self, tokens: Tokens, cond: Cond, plan: Plan) -> Read:
        """Feed all tokens, then read all positions."""
        state = self.start(cond, plan, 1)
        self._feed(state, tokens, len(plan))
        return self._read(state, torch.arange(plan.layout.size, device=tokens.values.device)[None])

    def start(self, cond: Cond, plan: Plan, branches: int) -> State:
        """State with features (R, N + 1, D) by slot, the condition's last, and the hidden state (R, D)."""
        state = super().start(cond, plan, branches)
        hidden = self.label(state.cond.label_or(self.config.classes))
        empty = hidden.new_zeros(len(hidden), plan.layout.size, self.width)
        state.tensors = {"hidden": hidden, "features": torch.cat([empty, hidden[:, None]], 1)}
        return state

    def step(self, state: State, tokens: Tokens, step: int) -> Read:
        """Feed the pending slots and read the group of a step."""
        self._feed(state, tokens, step)
        return self._read(state, state.plan.groups[step])

    def _feed(self, state: State, tokens: Tokens, step: int) -> None:
        slots, _ = state.pending(step)
        if slots.shape[1]:
            values = gather_positions(state.repeat(tokens.values), slots)
            if len(values) < state.rows:  # one sample with two branches
                values = values.expand(state.rows, -1)
            x, hidden = self.gru(self.token(values) + self.place(slots), state.tensors["hidden"][None])
            index = slots.expand(state.rows, -1)[..., None].expand_as(x)
            features = state.tensors["features"].scatter(1, index, x)
            state.tensors = {"hidden": hidden[0], "features": features}

    def _read(self, state: State, positions: Tensor) -> Read:
        features = state.tensors["features"]
        sources = state.repeat(state.plan.source(positions))[..., 0] % features.shape[1]  # COND is the last
        return Read(positions, features=gather_positions(features, sources)[:, :, None])
