"""MaskGIT as TiTok has it: BERT over the class and all codes, the unknown ones masked.

"MaskGIT: Masked Generative Image Transformer", 2022, section 3; "An Image is Worth 32 Tokens for Reconstruction and
Generation" (TiTok), 2024, section 4 ("MaskGIT-ViT"). Decisions, after descriptions of the published code; no recordings
of it exist here, so that its numbers are reproduced is not proven, but blocks and embeddings are tested against BERT:

* post-norm blocks with exact GELU and biases everywhere; tokens, positions and one type are added, then normed;
* codes, the mask, classes and the null class share a table; the class is the first token;
* attention ignores the plan's mask: a step encodes all positions again, without a cache.

The head is `categorical_plain`.

Shapes: R rows, N positions, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.canvas import BackboneConfig
from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Read
from arzoo.core.layout import Grid
from arzoo.core.plan import Plan
from arzoo.core.state import State
from arzoo.core.tokens import Tokens, gather_positions
from arzoo.models.common.activations import gelu
from arzoo.models.common.attention import Attention, Dropout


@dataclass(frozen=True, kw_only=True)
class MaskGITConfig(BackboneConfig):
    """Sizes of a `MaskGIT`.

    Attributes:
        width: Channels of the residual stream.
        depth: Blocks.
        heads: Attention heads.
        hidden_width: Width of the feed-forward layers; 0 is 4 times the width.
        vocab: Codes of the tokenizer.
        grid: (t, h, w) of the token canvas; (1, 1, N) for N tokens without a grid.
        classes: Number of classes.
        norm_eps: Epsilon of the LayerNorms.
        dropout: Dropout of the input, of attention weights, after attention and after the feed-forward layers.
        shared_dropout: One dropout mask for all positions of a sample, and none for attention weights (faster on a
            CPU).
    """

    width: int = 768
    depth: int = 24
    heads: int = 16
    hidden_width: int = 0
    vocab: int = 4096
    grid: tuple[int, int, int] = (1, 1, 32)
    classes: int = 1000
    norm_eps: float = 1e-12
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
        """Width of the feed-forward layers."""
        return self.hidden_width or 4 * self.width

    def build(self) -> MaskGIT:
        """Build a network with fresh weights."""
        return MaskGIT(self)


class Block(nn.Module):
    """Post-norm block ("BERT: Pre-training of Deep Bidirectional Transformers", 2018, section 3)."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        weight_dropout = 0.0 if config.shared_dropout else config.dropout
        self.attention = Attention(width, config.heads, True, True, weight_dropout)
        self.fc1, self.fc2 = nn.Linear(width, config.hidden), nn.Linear(config.hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.dropout = Dropout(config.dropout, config.shared_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to x (R, S, D)."""
        x = self.norm1(x + self.dropout(self.attention(x, None, None)))
        return self.norm2(x + self.dropout(self.fc2(gelu(self.fc1(x)))))


class MaskGIT(Backbone):
    """The backbone of MaskGIT. Its canvas holds codes (B, N)."""

    config: MaskGITConfig
    readouts, bidirectional = frozenset({"inplace"}), True
    code_head = "categorical_plain"

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        self.config, self.width, self.layout = config, config.width, config.layout
        width = config.width
        # Codes, the mask, classes, and the null class.
        self.token = nn.Embedding(config.vocab + 1 + config.classes + 1, width)
        self.position = nn.Embedding(1 + config.layout.size, width)
        self.kind = nn.Embedding(2, width)  # BERT's two kinds of sentences, of which only the first is used
        self.norm = nn.LayerNorm(width, config.norm_eps)
        self.dropout = Dropout(config.dropout, config.shared_dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.apply(_initialise)

    def repeated_blocks(self) -> list[nn.Module]:
        """Return its transformer blocks."""
        return [*self.blocks]

    def encode(self, values: Tensor, known: Tensor, cond: Cond) -> Tensor:
        """Encode a canvas of codes (R, N), of which those with `known` (R, N) are visible, as (R, N, D)."""
        mask = self.config.vocab
        label = cond.label_or(self.config.classes) + mask + 1
        x = self.token(torch.cat([label[:, None], values.masked_fill(~known, mask)], 1))
        x = self.dropout(self.norm(x + self.position.weight + self.kind.weight[0]))
        for block in self.blocks:
            x = block(x)
        return x[:, 1:]

    def features(self, tokens: Tokens, cond: Cond, plan: Plan) -> Read:
        """Compute the features of all positions from the known tokens (in training those before some step)."""
        positions = torch.arange(self.layout.size, device=tokens.values.device)[None]
        return Read(positions, self.encode(tokens.values, tokens.known, cond)[:, :, None])

    def step(self, state: State, tokens: Tokens, step: int) -> Read:
        """Encode what is known now, and read the positions that this step draws."""
        values, known = (torch.cat([x] * state.branches) for x in (tokens.values, tokens.known))
        drawn = state.plan.drawn(step)
        z = self.encode(values, known, state.cond)
        return Read(drawn, gather_positions(z, state.repeat(drawn))[:, :, None])


def _initialise(module: nn.Module) -> None:
    """Initialize as BERT: normal with deviation 0.02, biases at zero."""
    if isinstance(module, nn.Linear | nn.Embedding) and not module.weight.is_meta:
        nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
