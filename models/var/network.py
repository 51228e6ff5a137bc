"""VAR: next-scale prediction over the codes of a multi-scale VQ tokenizer.

"Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction", 2024, section 3. Decisions, all
from the published code:

* the input of a level is the sum of all coarser ones, averaged down to its size; that of the first level is the class;
  learned positions and an embedding of the level are added;
* a level attends to itself and to coarser ones, both ways inside a level;
* queries and keys are of unit length, queries times a learned factor per head, of at most 100; keys have no bias;
* modulations are gate, gate, scale, scale, shift, shift (attention before feed-forward), from the class; LayerNorms
  have no gain; the largest model has one modulation for all blocks, to which each adds an offset;
* the output is normed and modulated by (scale, shift); the head is `categorical_plain`.

Modulations depend on the class alone, so a run computes them once; the sum of coarser levels grows by a level a step.

Shapes: R rows, B samples, S new tokens, N positions, D width, C channels of a code, h x w finest grid.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.canvas import BackboneConfig
from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Read
from arzoo.core.layout import Pyramid
from arzoo.core.plan import Plan
from arzoo.core.pyramid import square_levels
from arzoo.core.state import State
from arzoo.core.tokens import LatentCanvas, Tokens, TokenSpec, gather_positions
from arzoo.models.common.activations import gelu_tanh, silu
from arzoo.models.common.attention import KeyValue, attend, empty_cache

STEEPEST = math.log(100)
"""Largest logarithm of the factor of queries."""


@dataclass(frozen=True, kw_only=True)
class VARConfig(BackboneConfig):
    """Sizes of a `VAR`.

    Attributes:
        width: Channels of the residual stream.
        depth: Blocks.
        heads: Attention heads.
        hidden_width: Width of the feed-forward layers; 0 is 4 times the width.
        vocab: Codes of the tokenizer.
        code_channels: Channels of the vector of a code.
        levels: Sides of the levels of the tokenizer, coarse to fine.
        classes: Number of classes.
        shared_modulation: One modulation for all blocks, and an offset for each.
        norm_eps: Epsilon of the LayerNorms.
        drop_path: Probability that a sample skips a branch of the last block in training, rising from 0 at the first.
        gate_init: Factor of the gates' weights at the beginning of a training.
    """

    width: int = 1024
    depth: int = 16
    heads: int = 16
    hidden_width: int = 0
    vocab: int = 4096
    code_channels: int = 32
    levels: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    classes: int = 1000
    shared_modulation: bool = False
    norm_eps: float = 1e-6
    drop_path: float = 0.0
    gate_init: float = 1e-3

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ArzooError(f"width {self.width} is not a multiple of {self.heads} heads")
        if not 0 <= self.drop_path < 1:
            raise ArzooError(f"drop_path must be from 0 to below 1, got {self.drop_path}")
        if self.levels[:1] != (1,):
            raise ArzooError(
                f"the first level of VAR is a single token, whose input is the class; got levels {list(self.levels)}. "
                "Use levels that begin with 1, in the tokenizer too"
            )
        if not all(small < large for small, large in itertools.pairwise(self.levels)):
            raise ArzooError(f"levels of VAR rise from the first to the last, got {list(self.levels)}")

    @property
    def layout(self) -> Pyramid:
        """Positions of the canvas."""
        return square_levels(self.levels)

    @property
    def hidden(self) -> int:
        """Width of the feed-forward layer."""
        return self.hidden_width or 4 * self.width

    def build(self) -> VAR:
        """Build a network with fresh weights."""
        return VAR(self)


class CosineAttention(nn.Module):
    """Multi-head attention of unit queries and keys, with a learned factor per head."""

    undecayed = frozenset({"scale"})  # as published, see `arzoo.train.optim`

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_bias, self.value_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.scale = nn.Parameter(torch.full((1, heads, 1, 1), math.log(4)))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None, cache: KeyValue | None, fill: int) -> Tensor:
        """Compute self-attention of x (R, S, D); other arguments as in `common.attention.Attention.forward`."""
        query, key, value = self.qkv(x).chunk(3, -1)
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (query + self.query_bias, key, value + self.value_bias)
        )
        # Attention divides by the root of the width of a head.
        factor = self.scale.clamp(max=STEEPEST).exp() * math.sqrt(query.shape[-1])
        query, key = (
            (F.normalize(query, dim=-1) * factor).to(value.dtype),
            F.normalize(key, dim=-1).to(value.dtype),
        )
        if cache is not None:
            keys, values, end = *cache, fill + x.shape[1]
            keys[:, :, fill:end], values[:, :, fill:end] = key, value
            key, value = keys[:, :, :end], values[:, :, :end]
        return self.proj(attend(query, key, value, mask).transpose(1, 2).flatten(2))


class DropPath(nn.Module):
    """Skips a branch for some samples in training ("Deep Networks with Stochastic Depth", 2016).

    Not timm's: `F.dropout` is what training replaces by randomness of the sample.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples of x (R, S, D), and scale the others up."""
        return x * F.dropout(torch.ones_like(x[:, :1, :1]), self.p) if self.training and self.p else x


class Block(nn.Module):
    """Pre-norm block whose norms and residuals follow a condition."""

    undecayed = frozenset({"offset"})

    def __init__(self, config: VARConfig, drop_path: float) -> None:
        super().__init__()
        width = config.width
        self.modulation = None if config.shared_modulation else nn.Linear(width, 6 * width)
        self.offset = nn.Parameter(torch.zeros(1, 1, 6, width)) if config.shared_modulation else None
        self.norm = nn.LayerNorm(width, config.norm_eps, elementwise_affine=False)
        self.attention = CosineAttention(width, config.heads)
        self.fc1, self.fc2 = nn.Linear(width, config.hidden), nn.Linear(config.hidden, width)
        self.drop_path = DropPath(drop_path)

    def modulate(self, condition: Tensor) -> Tensor:
        """Compute the modulation (R, 6, D) of a condition, (R, D) or the one (R, 6, D) that all blocks share."""
        if self.modulation is not None:
            return self.modulation(condition).unflatten(1, (6, -1))
        assert self.offset is not None
        return condition + self.offset[0]

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        mask: Tensor | None,
        cache: KeyValue | None = None,
        fill: int = 0,
        modulation: Tensor | None = None,
    ) -> Tensor:
        """Apply the block.

        Args:
            x: (R, S, D).
            condition: As in `modulate`.
            mask: As in `CosineAttention.forward`, like the next two.
            cache: As there.
            fill: As there.
            modulation: The modulation (R, 6, D) of the condition, if it is known already.
        """
        modulation = self.modulate(condition) if modulation is None else modulation
        gate1, gate2, scale1, scale2, shift1, shift2 = modulation.split(1, 1)
        y = self.attention(self.norm(x) * (1 + scale1) + shift1, mask, cache, fill)
        x = x + self.drop_path(gate1 * y)
        y = self.fc2(gelu_tanh(self.fc1(self.norm(x) * (1 + scale2) + shift2)))
        return x + self.drop_path(gate2 * y)


class _Borrowed:
    """A canvas of the tokenizer, which copies of the network share instead of copying the tokenizer's codebook."""

    def __init__(self, canvas: LatentCanvas) -> None:
        self.canvas = canvas

    def __deepcopy__(self, memo: dict[int, Any]) -> _Borrowed:
        return self


class VAR(Backbone):
    """The backbone of VAR. Its canvas holds codes (B, N), the levels one after another."""

    config: VARConfig
    readouts, code_head, reads_canvas = frozenset({"draft"}), "categorical_plain", True
    undecayed = frozenset({"first", "positions", "level.weight"})

    def __init__(self, config: VARConfig) -> None:
        super().__init__()
        self.config, self.width, self.layout = config, config.width, config.layout
        width, depth = config.width, config.depth
        self.label = nn.Embedding(config.classes + 1, width)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.input = nn.Linear(config.code_channels, width)
        self.positions = nn.Parameter(torch.zeros(1, self.layout.size, width))
        self.level = nn.Embedding(len(config.levels), width)
        self.blocks = nn.ModuleList(
            Block(config, config.drop_path * i / max(depth - 1, 1)) for i in range(depth)
        )
        self.shared = nn.Linear(width, 6 * width) if config.shared_modulation else None
        self.norm = nn.LayerNorm(width, config.norm_eps, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self._borrowed: _Borrowed | None = None
        if not self.first.is_meta:
            self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Initialize as published: deviation sqrt(1 / 3D), smaller at the ends of branches and for the gates."""
        std, width = math.sqrt(1 / (3 * self.width)), self.width
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.trunc_normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for table in (self.first, self.positions):
            nn.init.trunc_normal_(table, std=std)
        for block in self.blocks:
            for layer in (block.attention.proj, block.fc2):
                layer.weight /= math.sqrt(2 * self.config.depth)
            if block.offset is not None:
                block.offset.normal_(0, width**-0.5)
            parts = block.modulation.weight if block.offset is None else block.offset[0, 0]
            gates = parts[: len(parts) // 3]
            parts[len(gates) :] *= 0.5
            gates *= self.config.gate_init
        self.modulation.weight *= 0.5

    def repeated_blocks(self) -> list[nn.Module]:
        """Return its transformer blocks."""
        return [*self.blocks]

    def attach(self, spec: TokenSpec) -> None:
        """Take the canvas of a tokenizer, with which inputs are computed; copies of this network share it."""
        self._borrowed = None if spec.canvas is None else _Borrowed(spec.canvas)

    @property
    def canvas(self) -> LatentCanvas:
        """The canvas of the tokenizer.

        Raises:
            ArzooError: No tokenizer, or one without a pyramid of codes, was attached.
        """
        if self._borrowed is None:
            raise ArzooError(
                "VAR computes its inputs with the codes of a multi-scale VQ tokenizer, and has none: use it in a "
                "Generator, or call backbone.attach(tokenizer.spec) first"
            )
        return self._borrowed.canvas

    def average(self, total: Tensor, level: int) -> Tensor:
        """Average the sum of coarser levels (B, C, h, w) to the size of a level, (B, n, C)."""
        grid = self.layout.levels[level]
        return F.adaptive_avg_pool2d(total, (grid.h, grid.w)).flatten(2).transpose(1, 2)

    def embed(self, label: Tensor, drafts: list[Tensor], levels: range) -> Tensor:
        """Embed the inputs (R, S, D) of consecutive levels.

        Args:
            label: (R, D) classes.
            drafts: (B, n, C) of each of the levels but the first.
            levels: The levels.
        """
        inputs = [label[:, None] + self.first] if 0 in levels else []
        if drafts:
            x = self.input(torch.cat(drafts, 1).to(self.input.weight.dtype))
            inputs.append(x.repeat(len(label) // len(x), 1, 1))
        span = slice(self.layout.span(levels[0]).start, self.layout.span(levels[-1]).stop)
        rows = [self.level.weight[i].expand(self.layout.levels[i].size, -1) for i in levels]
        return torch.cat(inputs, 1) + (torch.cat(rows) + self.positions[0, span])

    def condition(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the condition of the blocks, see `Block.modulate`, and the modulation (R, 2, D) of the output."""
        active = silu(label)
        output = self.modulation(active).unflatten(1, (2, -1))
        return (active if self.shared is None else self.shared(active).unflatten(1, (6, -1))), output

    def output(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Norm and modulate (R, S, D)."""
        scale, shift = modulation.split(1, 1)
        return self.norm(x) * (1 + scale) + shift

    def drafts(self, tokens: Tokens) -> list[Tensor]:
        """Compute the inputs (B, n, C) of all levels but the first from the true coarser ones."""
        total, drafts = self.canvas(tokens.values, 0), list[Tensor]()
        for level in range(1, len(self.layout.levels)):
            total = total + self.canvas(tokens.values, level, level - 1)
            drafts.append(self.average(total, level))
        return drafts

    def features(self, tokens: Tokens, cond: Cond, plan: Plan) -> Read:
        """Compute all levels in parallel, each from the true coarser ones."""
        label = self.label(cond.label_or(self.config.classes))
        condition, modulation = self.condition(label)
        positions = torch.arange(plan.layout.size, device=label.device)[None]
        mask = plan.mask(positions, positions)[:, None]
        x = self.embed(label, self.drafts(tokens), range(len(self.layout.levels)))
        for block in self.blocks:
            x = block(x, condition, mask)
        return Read(positions, self.output(x, modulation)[:, :, None])

    def start(self, cond: Cond, plan: Plan, branches: int) -> State:
        """Allocate caches for all positions, and compute the modulations; nothing is fed yet."""
        state = State(plan, cond, branches)
        label = self.label(state.cond.label_or(self.config.classes))
        condition, modulation = self.condition(label)
        state.kv = empty_cache(
            len(self.blocks), state.rows, self.width, self.config.heads, plan.layout.size, self.input.weight
        )
        state.tensors = {
            "label": label,
            "blocks": torch.stack([block.modulate(condition) for block in self.blocks], 1),
            "output": modulation,
            "features": modulation.new_zeros(state.rows, plan.layout.size, self.width),
            "total_B": self.canvas(
                torch.zeros(state.batch, plan.layout.size, dtype=torch.long, device=label.device), 0
            ),
        }
        return state

    def step(self, state: State, tokens: Tokens, step: int) -> Read:
        """Feed the inputs up to and including those of this level, and read the level."""
        canvas, tensors = self.canvas, state.tensors
        first = sum(self.layout.span(level).stop <= state.fill for level in range(len(self.layout.levels)))
        slots, ranks = state.pending(step + 1)
        if slots.shape[1]:
            values = tokens.values if tokens.mixed is None else tokens.vectors(canvas.table)
            drafts = list[Tensor]()
            for level in range(max(first, 1), step + 1):
                tensors["total_B"] = tensors["total_B"] + canvas(values, level, level - 1)
                drafts.append(self.average(tensors["total_B"], level))
            x = self.embed(tensors["label"], drafts, range(first, step + 1))
            mask = state.plan.mask(slots, state.seen())[:, None] if ranks > 1 else None
            of_blocks = zip(self.blocks, state.kv, tensors["blocks"].unbind(1), strict=True)
            for block, cache, modulation in of_blocks:
                x = block(x, tensors["label"], mask, cache, state.fill, modulation)
            end = state.fill + slots.shape[1]
            tensors["features"][:, state.fill : end] = self.output(x, tensors["output"])
            state.fill = end
        group = state.plan.groups[step]
        features = gather_positions(tensors["features"], state.repeat(group))[:, :, None]
        return Read(group, features, table=canvas.table)
