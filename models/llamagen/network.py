"""Decoder-only transformer family: LlamaGen (raster), NAR (next-neighbor) and PAR (parallel groups).

Papers: "Autoregressive Model Beats Diffusion: Llama for Scalable Image Generation", 2024; "Neighboring Autoregressive
Modeling for Efficient Visual Generation", 2025; "Parallelized Autoregressive Visual Generation", 2024.

One network serves all three; they differ in the plan and in two sizes: `axes` readouts, each after one further
block (NAR), and `extras` learned transition inputs (PAR). Decisions, all from the published code:

* RMSNorm before each sublayer, SwiGLU, no biases, rotary positions in two dimensions (three for clips), untied output
  (in the head);
* the condition is a prefix: one class embedding, or a projected caption with its padding on the left;
* rotary rows of the prefix and of the extra inputs are all zero, not the identity (`zero_prefix_rotary`), so their
  queries and keys vanish; checkpoints need it, new models may turn it off;
* NAR's models of clips have learned positions instead (`absolute_positions`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.canvas import BackboneConfig
from arzoo.core.condition import Cond
from arzoo.core.layout import Grid
from arzoo.core.plan import Plan
from arzoo.models.common.attention import Block, Dropout, KeyValue, empty_cache
from arzoo.models.common.decoder_only import CachedDecoder
from arzoo.models.common.embeddings import LabelPrefix, TextPrefix, embed_tokens, token_table
from arzoo.models.common.rope import require_rotary, rope_table, turning_coords, turns


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(BackboneConfig):
    """Sizes and quirks of a `Transformer`.

    Attributes:
        width: Channels of the residual stream.
        depth: Blocks before the first readout; each further axis adds one.
        heads: Attention heads; width / heads is a multiple of 4.
        vocab: Codes of the tokenizer, 0 for continuous tokens.
        channels: Numbers per continuous token, 0 for codes.
        codebooks: Codes per position; their embeddings are summed.
        grid: (t, h, w) of the token canvas.
        classes: Number of classes, 0 for captions.
        text_width: Channels of caption features, 0 for classes.
        text_length: Prefix tokens of a caption.
        axes: Readouts, one per axis of the grid (next-neighbor).
        extras: Learned transition inputs (parallel groups).
        hidden_multiple: The feed-forward width is 8/3 width, rounded up to a multiple of this.
        hidden_width: The feed-forward width itself; 0 derives it as above.
        norm_eps: Epsilon of RMSNorm.
        rope_base: Longest rotary wavelength over 2 pi.
        zero_prefix_rotary: Rotary rows of prefix and extras are zero, as published, instead of the identity.
        learned_positions: Inputs also have a learned embedding of their position, for ordered tokens, where a code
            means something else at each position and rotary embeddings tell distances alone.
        absolute_positions: Learned embeddings of all inputs, the prefix and the extra ones too, take the place of
            rotary positions and are added after the dropout of the inputs (NAR's models of clips).
        token_dropout: Dropout of the input embeddings.
        dropout: Dropout after attention and feed-forward.
        shared_dropout: One dropout mask for all positions of a sample (faster on a CPU).
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    vocab: int = 16384
    channels: int = 0
    codebooks: int = 1
    grid: tuple[int, int, int] = (1, 16, 16)
    classes: int = 1000
    text_width: int = 0
    text_length: int = 120
    axes: int = 1
    extras: int = 0
    hidden_multiple: int = 256
    hidden_width: int = 0
    norm_eps: float = 1e-5
    rope_base: float = 10000.0
    zero_prefix_rotary: bool = True
    learned_positions: bool = False
    absolute_positions: bool = False
    token_dropout: float = 0.1
    dropout: float = 0.1
    shared_dropout: bool = False

    def __post_init__(self) -> None:
        if not self.absolute_positions:
            require_rotary(self.width, self.heads)
        elif self.width % self.heads:
            raise ArzooError(f"a width must be a multiple of its heads, got {self.width} and {self.heads}")
        self.require_one_kind()
        if (self.classes > 0) == (self.text_width > 0):
            raise ArzooError(
                f"condition on classes or on text, got classes={self.classes}, text_width={self.text_width}: "
                "set one to 0"
            )
        if self.learned_positions and self.absolute_positions:
            raise ArzooError(
                "learned_positions adds to rotary positions, absolute_positions replaces them: set one to false"
            )

    @property
    def layout(self) -> Grid:
        """Positions of the canvas."""
        return Grid(*self.grid)

    @property
    def hidden(self) -> int:
        """Width of the feed-forward layer."""
        multiple = self.hidden_multiple
        return self.hidden_width or -(-int(8 * self.width / 3) // multiple) * multiple

    def build(self) -> Transformer:
        """Build a network with fresh weights."""
        return Transformer(self)


class Transformer(CachedDecoder):
    """Backbone of LlamaGen, NAR and PAR. Its canvas: codes (B, N) or (B, N, Q), Q codebooks, or vectors (B, N, C)."""

    config: TransformerConfig
    rope: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config, self.width, self.axes, self.extras = config, config.width, config.axes, config.extras
        self.depth = config.depth + config.axes - 1
        self.padded = config.text_width > 0
        self.layout = config.layout
        if self.padded:
            self.condition: nn.Module = TextPrefix(config.text_width, config.text_length, config.width)
        else:
            self.condition = LabelPrefix(config.classes, config.width)
        self.token = token_table(config.vocab, config.codebooks, config.channels, config.width)
        self.place = nn.Embedding(self.layout.size, config.width) if config.learned_positions else None
        self.prefix_length = config.text_length if self.padded else 1
        rows = self.prefix_length + self.layout.size + config.extras
        self.places = (
            nn.Parameter(0.02 * torch.randn(1, rows, config.width)) if config.absolute_positions else None
        )
        self.extra = nn.Embedding(config.extras, config.width) if config.extras else None
        self.dropout = Dropout(config.token_dropout, config.shared_dropout)
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                config.heads,
                config.hidden,
                config.norm_eps,
                config.dropout,
                config.shared_dropout,
            )
            for _ in range(self.depth)
        )
        if self.places is None:
            self.register_buffer("rope", self._rope(), persistent=False)
        self.apply(_initialise)

    def _rope(self) -> Tensor:
        """Compute rotary rows by slot: positions, extras, and last the prefix."""
        config = self.config
        table = rope_table(turning_coords(self.layout), config.width // config.heads, config.rope_base)
        rest = torch.zeros(config.extras + 1, *table.shape[1:])
        if not config.zero_prefix_rotary:
            rest[..., 0] = 1
        return torch.cat([table, rest])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Transformer:
        """Cast or move the weights; the rotary table stays in float32, as published."""
        super()._apply(fn, recurse)
        if self.places is None and self.rope.dtype != torch.float32:
            self.rope = self._rope().to(self.rope.device)
        return self

    def repeated_blocks(self) -> list[nn.Module]:
        """Return its transformer blocks."""
        return [*self.blocks]

    def prefix(self, cond: Cond) -> Tensor:
        """Embed the condition as (R, P, D); under autocast the residual stream keeps the precision of the weights."""
        return self.condition(cond).to(self.token.weight.dtype)

    def prefix_keys(self, cond: Cond, count: int) -> Tensor:
        """Return the mask of caption tokens without padding, which both branches of guidance share, as published."""
        if not self.padded:
            return super().prefix_keys(cond, count)
        assert cond.text_mask is not None
        return cond.text_mask.bool()

    def prefix_positions(self, count: int) -> Tensor:
        """Return rotary rows (1, P, ...) of the prefix, or the embeddings (1, P, D) of absolute positions."""
        if self.places is not None:
            return self.places[:, :count]
        return self.rope[-1:].expand(count, -1, -1)[None]

    def positions(self, slots: Tensor) -> Tensor:
        """Return rotary rows (1 or R, S, ...) of slots, or the embeddings (1 or R, S, D) of absolute positions."""
        if self.places is not None:
            return self.places[0, self.prefix_length + slots]
        return self.rope[slots]

    def embed(self, values: Tensor, slots: Tensor, plan: Plan) -> Tensor:
        """Embed tokens; extra slots have learned embeddings."""
        size = plan.layout.size
        places = slots.clamp(max=size - 1)
        index = places.expand(len(values), -1)
        x = embed_tokens(self.token, values, index, self.config.vocab)
        if self.place is not None:
            x = x + self.place(places)
        if self.extra is None:
            return x
        return torch.where((slots >= size)[..., None], self.extra((slots - size).clamp(min=0)), x)

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
        """Compute one readout after each of the last `axes` blocks, (R, S, H, D)."""
        x, outs, rope = self.dropout(x), [], None
        if self.places is None:
            rope = turns(positions)
        else:
            x = x + positions
        for i, block in enumerate(self.blocks):
            x = block(x, rope, mask, None if cache is None else cache[i], fill)
            if i >= self.depth - self.axes:
                outs.append(x)
        return torch.stack(outs, 2)


def _initialise(module: nn.Module) -> None:
    """Initialize as published: normal with deviation 0.02."""
    if isinstance(module, nn.Linear | nn.Embedding) and not module.weight.is_meta:
        nn.init.normal_(module.weight, std=0.02)
