"""The trunk that xAR and FlowAR share: blocks modulated by a condition, two stacks with a bridge, one cache.

Papers: "Beyond Next-Token: Next-X Prediction for Autoregressive Visual Generation" (xAR), 2025, section 3; "FlowAR:
Scale-wise Autoregressive Image Generation Meets Flow Matching", 2024, section 3. Decisions, all from the published
code:

* the six parts of a modulation are gate, gate, scale, scale, shift, shift (attention before feed-forward), the gates do
  not start at zero, and the norms inside blocks have no gain;
* the feed-forward is gated by GELU; biases everywhere;
* inputs are normed after their positions are added; both stacks have a table of positions;
* coarser levels of a pyramid share the rotary coordinates of the finest one.

A condition has few distinct rows (one per sample when sampling, one per group in training), so modulations are computed
for those rows and then spread over the tokens.

Shapes: R rows, S tokens, U distinct rows of a condition, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.core.canvas import BackboneConfig
from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone
from arzoo.core.layout import Grid, Pyramid
from arzoo.core.plan import Plan
from arzoo.core.pyramid import square_levels
from arzoo.core.state import State
from arzoo.models.common.activations import gelu
from arzoo.models.common.attention import Attention, Dropout, KeyValue
from arzoo.models.common.initialise import xavier
from arzoo.models.common.rope import require_rotary, rope_table, turning_coords, turns


@dataclass(frozen=True, kw_only=True)
class ModulatedConfig(BackboneConfig):
    """Sizes of a `ModulatedTrunk`.

    Attributes:
        width: Channels of the residual stream.
        encoder_depth: Blocks of the first stack.
        decoder_depth: Blocks of the second stack.
        heads: Attention heads of the first stack.
        decoder_heads: Attention heads of the second stack; 0 is as many as the first.
        channels: Numbers per token.
        grid: (t, h, w) of the token canvas.
        levels: Sides of a pyramid of square levels, coarse to fine, instead of `grid`.
        classes: Number of classes.
        hidden_width: Width of the feed-forward layer; 0 is 8/3 width, rounded down.
        norm_eps: Epsilon of RMSNorm.
        rope_base: Longest rotary wavelength over 2 pi.
        dropout: Dropout of attention weights, after attention, and inside and after the feed-forward layers.
        shared_dropout: One dropout mask for all positions of a sample, and none for attention weights (faster on a
            CPU).
    """

    width: int = 768
    encoder_depth: int = 8
    decoder_depth: int = 8
    heads: int = 12
    decoder_heads: int = 0
    channels: int = 16
    grid: tuple[int, int, int] = (1, 16, 16)
    levels: tuple[int, ...] = ()
    classes: int = 1000
    hidden_width: int = 0
    norm_eps: float = 1e-6
    rope_base: float = 10000.0
    dropout: float = 0.1
    shared_dropout: bool = False

    def __post_init__(self) -> None:
        for heads in self.stack_heads:
            require_rotary(self.width, heads)

    @property
    def stack_heads(self) -> tuple[int, int]:
        """Attention heads of both stacks."""
        return self.heads, self.decoder_heads or self.heads

    @property
    def hidden(self) -> int:
        """Width of the feed-forward layer."""
        return self.hidden_width or 8 * self.width // 3

    @property
    def layout(self) -> Grid | Pyramid:
        """Positions of the canvas."""
        return square_levels(self.levels) if self.levels else Grid(*self.grid)


class Rotary(nn.Module):
    """Rotary rows of all positions of a layout, in units of the finest level; always float32.

    Args:
        layout: The positions.
        head_width: Width of an attention head, a multiple of 4.
        base: Longest wavelength over 2 pi.
    """

    table: Tensor

    def __init__(self, layout: Grid | Pyramid, head_width: int, base: float = 10000.0) -> None:
        super().__init__()
        self.layout, self.head_width, self.base = layout, head_width, base
        self.register_buffer("table", self._rows(), persistent=False)

    def _rows(self) -> Tensor:
        levels = (self.layout,) if isinstance(self.layout, Grid) else self.layout.levels
        finest, parts = levels[-1], []
        for level in levels:
            coords = turning_coords(level)
            axes = range(-coords.shape[1], 0)
            units = [coords[:, i] / level.shape[i] * finest.shape[i] for i in axes]
            parts.append(rope_table(torch.stack(units, 1), self.head_width, self.base))
        return torch.cat(parts)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Rotary:
        super()._apply(fn, recurse)
        if self.table.dtype != torch.float32:
            self.table = self._rows().to(self.table.device)
        return self

    def forward(self, positions: Tensor) -> Tensor:
        """Return complex turns (1 or R, S, 1, head_width / 2) of positions (1 or R, S)."""
        return turns(self.table[positions])


def time_index(t: Tensor | float) -> Tensor:
    """Convert a time from 0 to 1 to the index that networks embed: 1000 t in float32, truncated to int64."""
    return (torch.as_tensor(t, dtype=torch.float32) * 1000).long()


class GatedMlp(nn.Module):
    """Feed-forward gated by GELU ("GLU Variants Improve Transformer", 2020); one matrix [gate | up]."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0, shared: bool = False) -> None:
        super().__init__()
        self.gate_up, self.down = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)
        self.dropout = Dropout(dropout, shared)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to x (R, S, D)."""
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.dropout(self.down(self.dropout(gelu(gate) * up)))


@dataclass(frozen=True)
class Modulation:
    """A condition after its activation.

    Attributes:
        rows: (1 or R, U, D) its distinct rows; a single row applies to all tokens.
        index: (1 or R, S) the row of each token; None if U is 1 or S.
    """

    rows: Tensor
    index: Tensor | None = None

    def parts(self, layer: nn.Linear, count: int) -> tuple[Tensor, ...]:
        """Apply a linear layer, spread its rows over the tokens and split it into `count` parts (1 or R, 1 or S, D)."""
        spread = layer(self.rows)
        if self.index is not None:
            rows = max(len(spread), len(self.index))
            first = torch.arange(rows, device=spread.device)[:, None] * spread.shape[1]
            # Copying rows, and adding their gradients, is many times faster than gathering numbers.
            spread = F.embedding(first + self.index, spread.expand(rows, -1, -1).flatten(0, 1))
        return spread.chunk(count, -1)


class ModulatedBlock(nn.Module):
    """Pre-norm block whose norms and residuals follow a condition."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        eps: float,
        qkv_bias: bool = True,
        dropout: float = 0.0,
        shared_dropout: bool = False,
    ) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps, elementwise_affine=False)
        weight_dropout = 0.0 if shared_dropout else dropout
        self.attention = Attention(width, heads, qkv_bias, proj_bias=True, dropout=weight_dropout)
        self.dropout = Dropout(dropout, shared_dropout)
        self.mlp = GatedMlp(width, hidden, dropout, shared_dropout)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(
        self,
        x: Tensor,
        modulation: Modulation,
        rope: Tensor,
        mask: Tensor | None = None,
        cache: KeyValue | None = None,
        fill: int = 0,
    ) -> Tensor:
        """Apply the block; arguments as in `Attention.forward`, and the condition."""
        gate1, gate2, scale1, scale2, shift1, shift2 = modulation.parts(self.modulation, 6)
        y = self.attention(self.norm(x) * (1 + scale1) + shift1, rope, mask, cache, fill)
        x = x + gate1 * self.dropout(y)
        return x + gate2 * self.mlp(self.norm(x) * (1 + scale2) + shift2)


class ModulatedTrunk(Backbone):
    """Embedding, two stacks and cache; subclasses define the inputs and the readout."""

    config: ModulatedConfig

    def __init__(self, config: ModulatedConfig) -> None:
        super().__init__()
        self.config, self.width, self.layout = config, config.width, config.layout
        width, eps = config.width, config.norm_eps
        self.label = nn.Embedding(config.classes + 1, width)
        self.input = nn.Linear(config.channels, width)
        self.bridge = nn.Linear(width, width)
        self.encoder_positions = nn.Parameter(torch.zeros(self.layout.size, width))
        self.decoder_positions = nn.Parameter(torch.zeros(self.layout.size, width))
        self.input_norm, self.encoder_norm, self.decoder_norm = (nn.RMSNorm(width, eps) for _ in range(3))
        depths = config.encoder_depth, config.decoder_depth
        self.encoder, self.decoder = (
            nn.ModuleList(
                ModulatedBlock(
                    width,
                    heads,
                    config.hidden,
                    eps,
                    dropout=config.dropout,
                    shared_dropout=config.shared_dropout,
                )
                for _ in range(depth)
            )
            for depth, heads in zip(depths, config.stack_heads, strict=True)
        )
        self.encoder_rotary, self.decoder_rotary = (
            Rotary(self.layout, width // heads, config.rope_base) for heads in config.stack_heads
        )

    def repeated_blocks(self) -> list[nn.Module]:
        """Return the blocks of both stacks."""
        return [*self.encoder, *self.decoder]

    def class_rows(self, cond: Cond) -> Tensor:
        """Return class embeddings (R, 1, D); the last row of the table is the null class."""
        return self.label(cond.label_or(self.config.classes))[:, None]

    def embed(self, x: Tensor) -> Tensor:
        """Embed vectors (R, S, C) as inputs (R, S, D), in the type of the weights."""
        return self.input(x.to(self.input.weight.dtype))

    def start(self, cond: Cond, plan: Plan, branches: int) -> State:
        """Allocate static caches for all positions; nothing is fed, as the condition is not a token."""
        state = State(plan, cond, branches)
        heads = [block.attention.heads for block in (*self.encoder, *self.decoder)]
        for count in heads:
            shape = state.rows, count, plan.layout.size, self.width // count
            state.kv.append((self.bridge.weight.new_zeros(shape), self.bridge.weight.new_zeros(shape)))
        return state

    def trunk(
        self,
        x: Tensor,
        slots: Tensor,
        modulation: Modulation,
        mask: Tensor | None,
        cache: list[KeyValue] | None = None,
        fill: int = 0,
    ) -> Tensor:
        """Apply both stacks.

        Args:
            x: (R, S, D) inputs without positions.
            slots: (1 or R, S) their positions.
            modulation: Their condition.
            mask: (1 or R, 1, S, fill + S) bool or None.
            cache: Keys and values of every block; the new ones are written after the first `fill` entries.
            fill: Entries of the cache in use.

        Returns:
            (R, S, D).
        """
        memory = cache or [None] * (len(self.encoder) + len(self.decoder))
        x = self.input_norm(x + self.encoder_positions[slots])
        rope = self.encoder_rotary(slots)
        for block, entry in zip(self.encoder, memory[: len(self.encoder)], strict=True):
            x = block(x, modulation, rope, mask, entry, fill)
        x = self.bridge(self.encoder_norm(x)) + self.decoder_positions[slots]
        rope = self.decoder_rotary(slots)
        for block, entry in zip(self.decoder, memory[len(self.encoder) :], strict=True):
            x = block(x, modulation, rope, mask, entry, fill)
        return self.decoder_norm(x)


def initialise(module: nn.Module) -> None:
    """Initialize as published: Xavier uniform for linear layers, zero biases, tables normal with deviation 0.02."""
    xavier(module)
    for name, table in module.named_parameters():
        if name.endswith("positions") and not table.is_meta:
            nn.init.normal_(table, std=0.02)
