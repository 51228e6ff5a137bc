"""Mamba as a backbone: stacks of Mamba-1 or Mamba-2 layers over codes or vectors, and AiM.

"Mamba", 2023; "Transformers are SSMs", 2024; "Scalable Autoregressive Image Generation with Mamba" (AiM), 2024.
Decisions, all from the published code:

* a block is a residual, an RMSNorm and a Mamba layer; there is no feed-forward layer;
* the condition is a prefix: one class embedding, or a projected caption whose padding, on the left, the scans skip;
* AiM's blocks are modulated by (shift, scale, gate) of the class embedding: from a layer per block (`modulation` is
  "block", size B), or from one layer for four groups, of which block i uses group i mod 4, with a table per block
  (L and XL, "group"); its output is normed twice and modulated by (shift, scale);
* AiM adds learned positions to tokens, none to the class. Its decoding numbers tokens from 1, its training from 0
  (`decoding_offset`); published samples need both.

The published output layers share the weights of the embeddings; here a head has a copy, so further training unties
them. Any `shifted` plan without copies works: a token sees those fed before it, also inside a group, and readouts of
several axes follow one block each, as in NAR.

Shapes: R rows, S slots, N positions, H readouts, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.canvas import BackboneConfig
from arzoo.core.condition import Cond
from arzoo.core.layout import Grid
from arzoo.core.plan import Plan
from arzoo.models.common.activations import silu
from arzoo.models.common.attention import Dropout
from arzoo.models.common.embeddings import LabelPrefix, TextPrefix, embed_tokens, token_table
from arzoo.models.common.recurrent_decoder import Memory, RecurrentDecoder
from arzoo.models.mamba.layers import Mamba1, Mamba2

_AT_LEAST_1 = "width", "depth", "expand", "kernel", "head_width", "groups", "modulation_groups"


@dataclass(frozen=True, kw_only=True)
class MambaConfig(BackboneConfig):
    """Sizes and quirks of a `Mamba`.

    Attributes:
        width: Channels of the residual stream.
        depth: Blocks before the first readout; each further axis adds one.
        version: Layer of Mamba-1 or of Mamba-2. Mamba-2 is the faster one, as its scan is products of matrices.
        state_size: Numbers per channel of the state, N; 0 is 16 for Mamba-1 and 128 for Mamba-2, as published.
        expand: Inner channels over width.
        kernel: Tokens of the convolution.
        rank: Channels from which Mamba-1 projects its steps; 0 is width / 16, rounded up.
        head_width: Channels of a head of Mamba-2.
        groups: Groups of heads of Mamba-2 that share input and output vectors.
        bias: The projections of the layers have biases.
        vocab: Codes of the tokenizer, 0 for continuous tokens.
        channels: Numbers per continuous token, 0 for codes.
        codebooks: Codes per position; their embeddings are summed.
        grid: (t, h, w) of the token canvas.
        classes: Number of classes, 0 for captions or no condition.
        text_width: Channels of caption features, 0 for classes or no condition.
        text_length: Prefix tokens of a caption.
        axes: Readouts, one per axis of the grid (next-neighbor).
        extras: Learned transition inputs (parallel groups).
        modulation: How the class modulates the blocks: "none", by a layer per "block", or by one layer for each
            "group" of blocks and a table per block.
        modulation_groups: Groups of blocks, which take turns.
        positions: Inputs have a learned embedding of their position. Its table has a row more than there are tokens.
        decoding_offset: Tokens that are fed step by step take the row of the position this many later; published
            AiM has 1, which a parallel pass does not.
        norm_eps: Epsilon of all norms.
        token_dropout: Dropout of the input embeddings.
        dropout: Dropout after the layers.
        shared_dropout: One dropout mask for all positions of a sample (faster on a CPU).
    """

    width: int = 768
    depth: int = 24
    version: Literal[1, 2] = 2
    state_size: int = 0
    expand: int = 2
    kernel: int = 4
    rank: int = 0
    head_width: int = 64
    groups: int = 1
    bias: bool = False
    vocab: int = 16384
    channels: int = 0
    codebooks: int = 1
    grid: tuple[int, int, int] = (1, 16, 16)
    classes: int = 1000
    text_width: int = 0
    text_length: int = 120
    axes: int = 1
    extras: int = 0
    modulation: Literal["none", "block", "group"] = "none"
    modulation_groups: int = 4
    positions: bool = True
    decoding_offset: int = 0
    norm_eps: float = 1e-5
    token_dropout: float = 0.0
    dropout: float = 0.0
    shared_dropout: bool = False

    def __post_init__(self) -> None:
        self.require_one_kind()
        if self.classes > 0 and self.text_width > 0:
            raise ArzooError(
                f"condition on classes or on text, got classes={self.classes}, text_width={self.text_width}: "
                "set one to 0"
            )
        if self.modulation != "none" and not self.classes:
            raise ArzooError(
                f"modulation={self.modulation!r} follows the class, but classes=0: set modulation to none, or classes"
            )
        if self.decoding_offset not in (0, 1) or (self.decoding_offset and not self.positions):
            raise ArzooError(
                f"decoding_offset must be 0, or 1 with positions=true, got {self.decoding_offset} with "
                f"positions={self.positions}"
            )
        least = {name: getattr(self, name) for name in _AT_LEAST_1}
        if wrong := [f"{name}={value}" for name, value in least.items() if value < 1]:
            raise ArzooError(f"sizes of a Mamba must be at least 1, got {', '.join(wrong)}")
        heads, rest = divmod(self.expand * self.width, self.head_width)
        if self.version == 2 and (rest or heads % self.groups):
            raise ArzooError(
                f"the {self.expand * self.width} inner channels of Mamba-2 (expand x width) must be whole heads of "
                f"head_width={self.head_width}, and the heads groups={self.groups} equal groups"
            )

    @property
    def layout(self) -> Grid:
        """Positions of the canvas."""
        return Grid(*self.grid)

    def layer(self) -> Mamba1 | Mamba2:
        """Build one layer."""
        state = self.state_size or (16 if self.version == 1 else 128)
        if self.version == 1:
            rank = self.rank or math.ceil(self.width / 16)
            return Mamba1(self.width, state, self.expand, self.kernel, rank, self.bias)
        return Mamba2(
            self.width,
            state,
            self.expand,
            self.kernel,
            self.head_width,
            self.groups,
            self.bias,
            self.norm_eps,
        )

    def build(self) -> Mamba:
        """Build a network with fresh weights."""
        return Mamba(self)


class Block(nn.Module):
    """A Mamba layer before which the residual is normed, and modulated if the network is."""

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        width = config.width
        self.norm = nn.RMSNorm(width, config.norm_eps)
        self.mixer = config.layer()
        self.dropout = Dropout(config.dropout, config.shared_dropout)
        self.modulation = nn.Linear(width, 3 * width) if config.modulation == "block" else None
        grouped = config.modulation == "group"
        self.table = nn.Parameter(torch.randn(1, 3, width) / width**0.5) if grouped else None

    def modulations(self, condition: Tensor) -> Tensor:
        """Return shift, scale and gate (R, 3, D) of the condition.

        Args:
            condition: (R, 1, D) class after its activation, or (R, 3, D) modulation of the group.
        """
        if self.modulation is not None:
            return self.modulation(condition).unflatten(-1, (3, -1))[:, 0]
        return condition + self.table

    def forward(
        self,
        x: Tensor,
        condition: Tensor | None,
        memory: Memory | None = None,
        kept: Tensor | None = None,
        modulated: bool = False,
    ) -> tuple[Tensor, Memory]:
        """Apply the block.

        Args:
            x: (R, S, D).
            condition: See `modulations`; None without.
            memory: See `Mamba1`, also for the next.
            kept: (R, S) bool or None.
            modulated: The condition is what `modulations` returned.
        """
        y = self.norm(x)
        if condition is None:
            y, memory = self.mixer(y, memory, kept)
            return x + self.dropout(y), memory
        shift, scale, gate = (condition if modulated else self.modulations(condition)).split(1, 1)
        y, memory = self.mixer(y * (1 + scale) + shift, memory, kept)
        return x + gate * self.dropout(y), memory


class Mamba(RecurrentDecoder):
    """Backbone of Mamba and AiM. Its canvas: codes (B, N) or (B, N, Q), Q codebooks, or vectors (B, N, C)."""

    config: MambaConfig

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.config, self.width, self.axes, self.extras = config, config.width, config.axes, config.extras
        self.padded, self.layout, width = config.text_width > 0, config.layout, config.width
        self.condition: LabelPrefix | TextPrefix | None = None
        if self.padded:
            self.condition = TextPrefix(config.text_width, config.text_length, width)
        elif config.classes:
            self.condition = LabelPrefix(config.classes, width)
        self.token = token_table(config.vocab, config.codebooks, config.channels, width)
        self.place = nn.Embedding(self.layout.size + 1, width) if config.positions else None
        self.extra = nn.Embedding(config.extras, width) if config.extras else None
        self.dropout = Dropout(config.token_dropout, config.shared_dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth + config.axes - 1))
        modulated = config.modulation != "none"
        self.group: nn.Linear | None = None
        if config.modulation == "group":
            self.group = nn.Linear(width, 3 * config.modulation_groups * width)
        self.norm = nn.RMSNorm(width, config.norm_eps) if modulated else None
        self.output_norm = nn.RMSNorm(width, config.norm_eps) if modulated else None
        self.output_modulation = nn.Linear(width, 2 * width) if modulated else None
        self.code_head = "categorical_bare" if modulated else "categorical"
        if not self.blocks[0].norm.weight.is_meta:
            self._initialise()

    def _initialise(self) -> None:
        """Initialize as published: tables with deviation 0.02, outputs of layers divided, modulations at zero."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for block in self.blocks:
            nn.init.kaiming_uniform_(block.mixer.out_proj.weight, a=math.sqrt(5))
            with torch.no_grad():
                block.mixer.out_proj.weight /= math.sqrt(len(self.blocks))
        for layer in self._modulations():
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def _modulations(self) -> Iterator[nn.Linear]:
        layers = [block.modulation for block in self.blocks] + [self.group, self.output_modulation]
        return (layer for layer in layers if layer is not None)

    def repeated_blocks(self) -> list[nn.Module]:
        """Return its blocks."""
        return [*self.blocks]

    def prefix(self, cond: Cond) -> Tensor:
        """Embed the condition as (R, P, D); under autocast the residual stream keeps the precision of the weights."""
        dtype = self.token.weight.dtype
        if self.condition is None:
            return torch.zeros(cond.batch, 0, self.width, dtype=dtype, device=cond.dropped.device)
        return self.condition(cond).to(dtype)

    def prefix_keys(self, cond: Cond) -> Tensor:
        """Return the mask of caption tokens without padding, which both branches of guidance share."""
        assert cond.text_mask is not None
        return cond.text_mask.bool()

    def embed(
        self, values: Tensor, slots: Tensor, plan: Plan, stepping: bool, known: Tensor | None = None
    ) -> Tensor:
        """Embed tokens and their positions; extra slots have learned embeddings."""
        size = plan.layout.size
        places = slots.clamp(max=size - 1)
        index = places.expand(len(values), -1)
        x = embed_tokens(self.token, values, index, self.config.vocab)
        if known is not None:
            x = x.where(known.gather(1, index)[..., None], 0)
        if self.place is not None:
            x = x + self.place(places + (self.config.decoding_offset if stepping else 0))
        if self.extra is None:
            return x
        return torch.where((slots >= size)[..., None], self.extra((slots - size).clamp(min=0)), x)

    def fixed(self, cond: Cond) -> dict[str, Tensor]:
        """Compute the modulations of all blocks (R, L, 3, D), and of the output (R, 1, 2 D)."""
        if self.output_modulation is None:
            return {}
        conditions = self._conditions(active := silu(self.prefix(cond)))
        blocks = [block.modulations(one) for block, one in zip(self.blocks, conditions, strict=True)]
        return {"blocks": torch.stack(blocks, 1), "output": self.output_modulation(active)}

    def _conditions(self, active: Tensor) -> list[Tensor]:
        """Return the condition of each block, see `Block.modulations`."""
        if self.group is None:
            return [active] * len(self.blocks)
        groups = self.group(active).unflatten(-1, (-1, 3, self.width))[:, 0].unbind(1)
        return [groups[i % len(groups)] for i in range(len(self.blocks))]

    def trunk(
        self,
        x: Tensor,
        memory: list[Memory] | None,
        cond: Cond,
        kept: Tensor | None,
        fixed: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, list[Memory]]:
        """Compute one readout after each of the last `axes` blocks, (R, S, H, D)."""
        x, outs, after = self.dropout(x), [], []
        conditions: Sequence[Tensor | None] = [None] * len(self.blocks)
        if self.output_modulation is not None:
            active = silu(self.prefix(cond)) if fixed is None else None
            conditions = self._conditions(active) if fixed is None else fixed["blocks"].unbind(1)
        for i, (block, condition) in enumerate(zip(self.blocks, conditions, strict=True)):
            x, new = block(x, condition, None if memory is None else memory[i], kept, fixed is not None)
            after.append(new)
            if i >= self.config.depth - 1:
                outs.append(x)
        out = torch.stack(outs, 2)
        if self.output_modulation is not None:
            shift, scale = (self.output_modulation(active) if fixed is None else fixed["output"]).chunk(2, -1)
            out = self.output_norm(self.norm(out)) * (1 + scale[:, :, None]) + shift[:, :, None]
        return out, after
