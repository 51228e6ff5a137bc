"""RAR: a causal transformer whose inputs name the position that they predict, for training in random orders.

"Randomized Autoregressive Visual Generation", 2024, section 3. Decisions, after descriptions of the published code; no
recordings of it exist here, so that its numbers are reproduced is not proven:

* two prefix tokens, a learned one and the class; codes, classes and the null class share a table;
* learned positions of the input itself, and of the position that it predicts, from the class token on;
* blocks modulated as in DiT, (shift, scale, gate) for attention and feed-forward, by the class embedding plus a learned
  embedding of the place in the sequence; LayerNorms with gain, queries and keys normed, biases everywhere;
* the output is normed without gain and modulated by (scale, shift), in this order.

The head is `categorical_plain`. Any plan without copies in which each input predicts at most one position
works.

Shapes: R rows, S new tokens, N positions, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.canvas import BackboneConfig
from arzoo.core.condition import Cond
from arzoo.core.layout import Grid
from arzoo.core.plan import COND, NONE, Plan
from arzoo.models.common.activations import gelu, silu
from arzoo.models.common.attention import Attention, Dropout, KeyValue, empty_cache
from arzoo.models.common.decoder_only import CachedDecoder

PREFIX = 2
"""Tokens before the first code: a learned one and the class."""


@dataclass(frozen=True, kw_only=True)
class RARConfig(BackboneConfig):
    """Sizes of a `RAR`.

    Attributes:
        width: Channels of the residual stream.
        depth: Blocks.
        heads: Attention heads.
        hidden_width: Width of the feed-forward layers; 0 is 4 times the width.
        vocab: Codes of the tokenizer.
        grid: (t, h, w) of the token canvas.
        classes: Number of classes.
        norm_eps: Epsilon of the LayerNorms.
        unused_positions: Rows of both tables of positions after those of the canvas; published weights have 1022.
        unused_places: The same of the table of places in the sequence; published weights have 98.
        dropout: Dropout of attention weights, after attention, and after the feed-forward layers.
        shared_dropout: One dropout mask for all positions of a sample, and none for attention weights (faster on a
            CPU).
    """

    width: int = 768
    depth: int = 24
    heads: int = 16
    hidden_width: int = 0
    vocab: int = 1024
    grid: tuple[int, int, int] = (1, 16, 16)
    classes: int = 1000
    norm_eps: float = 1e-6
    unused_positions: int = 0
    unused_places: int = 0
    dropout: float = 0.1
    shared_dropout: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ArzooError(f"width {self.width} is not a multiple of {self.heads} heads")

    @property
    def layout(self) -> Grid:
        """Positions of the canvas."""
        return Grid(*self.grid)

    @property
    def hidden(self) -> int:
        """Width of the feed-forward layer."""
        return self.hidden_width or 4 * self.width

    def build(self) -> RAR:
        """Build a network with fresh weights."""
        return RAR(self)


class Block(nn.Module):
    """Pre-norm block whose norms and residuals follow a condition."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        weight_dropout = 0.0 if config.shared_dropout else config.dropout
        self.attention = Attention(width, config.heads, True, True, weight_dropout, eps)
        self.fc1, self.fc2 = nn.Linear(width, config.hidden), nn.Linear(config.hidden, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.dropout = Dropout(config.dropout, config.shared_dropout)

    def forward(
        self, x: Tensor, active: Tensor, mask: Tensor | None, cache: KeyValue | None, fill: int
    ) -> Tensor:
        """Apply the block; arguments as in `Attention.forward`, and the condition (R, S, D) after its activation."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(active).chunk(6, -1)
        y = self.attention(self.norm1(x) * (1 + scale1) + shift1, None, mask, cache, fill)
        x = x + gate1 * self.dropout(y)
        y = self.fc2(gelu(self.fc1(self.norm2(x) * (1 + scale2) + shift2)))
        return x + gate2 * self.dropout(y)


class RAR(CachedDecoder):
    """The backbone of RAR. Its canvas holds codes (B, N)."""

    config: RARConfig
    code_head, any_order = "categorical_plain", True
    copies = False  # its blocks follow the number of inputs fed so far

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.config, self.width, self.layout = config, config.width, config.layout
        size, width = PREFIX + config.layout.size, config.width
        # Codes, a row that nothing reads, classes, and the null class.
        self.token = nn.Embedding(config.vocab + 1 + config.classes + 1, width)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        # Inputs and targets are counted with the prefix, whose rows of `targets` nothing reads.
        positions = size + config.unused_positions
        self.inputs = nn.Parameter(torch.zeros(1, positions, width))
        self.targets = nn.Parameter(torch.zeros(1, positions, width))
        self.places = nn.Parameter(torch.zeros(1, size + config.unused_places, width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, config.norm_eps, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        if not self.first.is_meta:
            self._initialise()

    def _initialise(self) -> None:
        """Initialize with deviation 0.02, biases at zero; modulations at zero, so that blocks begin as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for table in self.parameters(recurse=False):
            nn.init.trunc_normal_(table, std=0.02)
        for layer in (self.modulation, *(block.modulation for block in self.blocks)):
            nn.init.zeros_(layer.weight)

    def repeated_blocks(self) -> list[nn.Module]:
        """Return its transformer blocks."""
        return [*self.blocks]

    def class_rows(self, cond: Cond) -> Tensor:
        """Embed the classes as (R, 1, D); the last row of the table is the null class."""
        return self.token(cond.label_or(self.config.classes) + self.config.vocab + 1)[:, None]

    def prefix(self, cond: Cond) -> Tensor:
        """Embed the condition as (R, 2, D), without the position that it predicts."""
        rows = self.class_rows(cond)
        return torch.cat([self.first.expand_as(rows), rows], 1) + self.inputs[:, :PREFIX]

    def prefix_of(self, cond: Cond, plan: Plan) -> Tensor:
        """Embed the condition as (R, 2, D); the class predicts the first position of the order."""
        x = self.prefix(cond)
        target = self._targets(plan, torch.full((1, 1), plan.layout.size, device=plan.rank.device))
        return torch.cat([x[:, :-1], x[:, -1:] + target.repeat(len(x) // len(target), 1, 1)], 1)

    def embed(self, values: Tensor, slots: Tensor, plan: Plan) -> Tensor:
        """Embed tokens, the positions that they are at and those that they predict."""
        codes = values.gather(1, slots.expand(len(values), -1))
        return self.token(codes) + self.inputs[0, PREFIX + slots] + self._targets(plan, slots)

    def _targets(self, plan: Plan, slots: Tensor) -> Tensor:
        """Embeddings (1 or R, S, D) of the positions that slots (1 or R, S) predict; slot N stands for the condition.

        A slot that predicts nothing has zeros.
        """
        assert plan.sources is not None
        size, sources = plan.layout.size, plan.sources[..., 0].view(-1, plan.layout.size)
        index = torch.where(sources == COND, size, torch.where(sources == NONE, size + 1, sources))
        targets = sources.new_full((len(index), size + 2), -1)
        targets = targets.scatter(1, index, torch.arange(size, device=index.device).expand_as(index))
        rows = max(len(slots), len(targets))
        targets = targets.repeat(rows // len(targets), 1).gather(1, slots.expand(rows, -1))
        return torch.where((targets < 0)[..., None], 0.0, self.targets[0, PREFIX + targets.clamp(min=0)])

    def new_cache(self, rows: int, capacity: int) -> list[KeyValue]:
        """Allocate static keys and values for each block."""
        return empty_cache(len(self.blocks), rows, self.width, self.config.heads, capacity, self.token.weight)

    def trunk(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        cache: list[KeyValue] | None,
        fill: int,
        cond: Cond,
    ) -> Tensor:
        """Compute the normed and modulated output, (R, S, 1, D)."""
        active = silu(self.class_rows(cond) + self.places[:, fill : fill + x.shape[1]])
        for i, block in enumerate(self.blocks):
            x = block(x, active, mask, None if cache is None else cache[i], fill)
        scale, shift = self.modulation(active).chunk(2, -1)
        return (self.norm(x) * (1 + scale) + shift)[:, :, None]
