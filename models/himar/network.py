"""Hi-MAR: a MAR that draws a coarse grid of tokens, the pivots, and then the dense grid, in two stages of one network.

"Hierarchical Masked Autoregressive Models with Low-Resolution Token Pivots", 2025, section 3. Both stages read the same
sequence: buffer tokens that hold the class, pivots, dense tokens. Decisions, all from the published code:

* the stage modulates every block: the input of a layer is scaled and its output gated, by factors that depend on the
  stage alone; nothing is added, and the stage is embedded by a table;
* in the first stage all dense positions are masked; mask tokens and positions are tables of their own per stage;
* the second stage sees the features from which a pivot was drawn, not the pivot: those of the step that drew it, in the
  conditional branch, also under guidance. Training therefore shows it the features of masked pivots, detached, and null
  pivots where the first stage knew the pivot.

The published code has no case for pivots that are given and so were never drawn. Before the second stage begins, the
first one then reads them as if it had drawn them: each from those that come earlier in the order. A picture whose first
steps are given therefore goes on as if they had been drawn.

The published training encodes the picture at half its size; here pivots are means of the dense vectors, which any
tokenizer has, and which vary less. Pivots that are given to converted weights are therefore not quite of the kind that
these were trained on.

Shapes: B samples, R rows, P pivots, N positions (pivots, then dense), b buffer tokens, S kept inputs, D width, C
channels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.canvas import BackboneConfig
from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Read
from arzoo.core.layout import Pyramid
from arzoo.core.plan import Plan
from arzoo.core.pyramid import square_levels
from arzoo.core.state import State
from arzoo.core.tokens import Tokens, gather_positions
from arzoo.models.common.activations import silu
from arzoo.models.common.initialise import xavier
from arzoo.models.mar.network import class_vectors, kept_slots, scattered, through

_norm = functools.partial(nn.LayerNorm, eps=1e-6)
PIVOTS, DENSE = 0, 1
"""The stages."""


@dataclass(frozen=True, kw_only=True)
class HiMARConfig(BackboneConfig):
    """Sizes of a `HiMAR`.

    Attributes:
        width: Channels of encoder, decoder and features.
        depth: Blocks of the encoder.
        heads: Attention heads of the encoder.
        decoder_depth: Blocks of the decoder, 0 for the encoder's number.
        decoder_heads: Attention heads of the decoder, 0 for the encoder's number.
        mlp_ratio: Width of the feed-forward layers over that of their block.
        channels: Numbers per continuous token, 0 for codes.
        vocab: Codes of the tokenizer, 0 for continuous tokens.
        levels: Sides of the square grids of pivots and of dense tokens.
        classes: Number of classes, 0 for an unconditional model.
        buffer: Number of buffer tokens.
        attention_dropout: Dropout of attention weights.
        dropout: Dropout after attention, and inside and after the feed-forward layers.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    decoder_depth: int = 0
    decoder_heads: int = 0
    mlp_ratio: float = 4.0
    channels: int = 16
    vocab: int = 0
    levels: tuple[int, ...] = (8, 16)
    classes: int = 1000
    buffer: int = 64
    attention_dropout: float = 0.1
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for heads in (self.heads, self.decoder[1]):
            if self.width % heads:
                raise ArzooError(f"width {self.width} is not a multiple of {heads} heads")
        self.require_one_kind()
        if len(self.levels) != 2 or not 1 <= self.levels[0] < self.levels[1]:
            raise ArzooError(
                f"levels are the sides of two grids, a coarse one of pivots and a larger dense one, such as [8, 16], "
                f"got {list(self.levels)}"
            )
        if self.buffer < 1:
            raise ArzooError(
                f"the encoder starts from at least 1 buffer token, which holds the class; got {self.buffer}"
            )

    @property
    def layout(self) -> Pyramid:
        """Positions of the canvas."""
        return square_levels(self.levels)

    @property
    def decoder(self) -> tuple[int, int]:
        """Blocks and heads of the decoder."""
        return self.decoder_depth or self.depth, self.decoder_heads or self.heads

    def build(self) -> HiMAR:
        """Build a network with fresh weights."""
        return HiMAR(self)


class StageBlock(Block):
    """A pre-norm block of timm whose layers are modulated by the stage.

    `stage_scale` and `stage_shift` (2, 4D) turn the vector of a stage, which all blocks of a stack share, into the
    factors of this block: input of the attention, its gate, input of the feed-forward layer, its gate.
    """

    decayed_tables = frozenset({"stage_scale", "stage_shift"})  # see `arzoo.train.optim`

    def __init__(self, width: int, heads: int, **settings: object) -> None:
        super().__init__(width, heads, qkv_bias=True, norm_layer=_norm, **settings)  # type: ignore[arg-type]
        self.stage_scale = nn.Parameter(torch.zeros(2, 4 * width))
        self.stage_shift = nn.Parameter(
            torch.tensor([0.0, 1.0, 0.0, 1.0]).repeat_interleave(width).repeat(2, 1)
        )

    def forward(self, x: Tensor, vector: Tensor, stage: int, attn_mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Apply the block to x (R, S, D), with the vector (4D,) of the stage; `attn_mask` as in timm."""
        factors = vector * self.stage_scale[stage] + self.stage_shift[stage]
        scale1, gate1, scale2, gate2 = factors.chunk(4)
        x = x + gate1 * self.attn(self.norm1(x) * (1 + scale1), attn_mask=attn_mask)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2))


class Stages(nn.Module):
    """Vectors of the two stages, from which the blocks of a stack compute their factors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table, self.project = nn.Embedding(2, width), nn.Linear(width, 4 * width)

    def forward(self, stage: int) -> Tensor:
        """Return the vector (4D,) of a stage."""
        vector: Tensor = self.project(silu(self.table.weight[stage]))
        return vector


class HiMAR(Backbone):
    """The backbone of Hi-MAR. Its canvas holds vectors (B, N, C), or codes (B, N), pivots first."""

    config: HiMARConfig
    readouts, bidirectional = frozenset({"inplace"}), True
    gives = frozenset({"features", "full"})
    stages = 2
    later_vector_heads = ("dit",)
    stage_weights = (2.0, 0.75)
    layout: Pyramid

    def __init__(self, config: HiMARConfig) -> None:
        super().__init__()
        self.config, self.layout, self.width = config, config.layout, config.width
        width, size = config.width, self.layout.size
        self.pivots = self.layout.span(PIVOTS).stop
        depth, heads = config.decoder
        block = functools.partial(
            StageBlock,
            mlp_ratio=config.mlp_ratio,
            attn_drop=config.attention_dropout,
            proj_drop=config.dropout,
        )
        self.label = nn.Embedding(config.classes, width) if config.classes else None
        self.null = nn.Parameter(torch.zeros(1, width))
        self.token, self.pivot = (
            nn.Embedding(config.vocab, width) if config.vocab else nn.Linear(config.channels, width)
            for _ in range(2)
        )
        self.null_pivots = nn.Parameter(torch.zeros(1, self.pivots, config.channels or width))
        self.pivot_features = nn.Linear(width, width)
        self.encoder_positions = nn.Parameter(torch.zeros(2, config.buffer + size, width))
        self.token_norm = _norm(width)
        self.encoder_stages, self.decoder_stages = Stages(width), Stages(width)
        self.encoder = nn.ModuleList(block(width, config.heads) for _ in range(config.depth))
        self.encoder_norm = _norm(width)
        self.bridge = nn.Linear(width, width)
        self.mask_tokens = nn.Parameter(torch.zeros(2, size, width))
        self.decoder_positions = nn.Parameter(torch.zeros(2, config.buffer + size, width))
        self.decoder = nn.ModuleList(block(width, heads) for _ in range(depth))
        self.decoder_norm = _norm(width)
        self.feature_positions = nn.Parameter(torch.zeros(1, size, width))
        if not self.null.is_meta:
            self._initialise()

    def _initialise(self) -> None:
        """Initialize as published: Xavier for linear layers, normal with deviation 0.02 for tables."""
        xavier(self)
        for table in self.parameters(recurse=False):
            nn.init.normal_(table, std=0.02)

    def repeated_blocks(self) -> list[nn.Module]:
        """Return the blocks of both stacks."""
        return [*self.encoder, *self.decoder]

    def null_vectors(self) -> Tensor:
        """Return what the second stage sees (1, P, D) in place of pivots it must do without."""
        nulls: Tensor = self.pivot(self.null_pivots) if self.config.channels else self.null_pivots
        return nulls

    def pass_of(
        self,
        stage: int,
        pivots: Tensor,
        values: Tensor,
        known: Tensor,
        cond: Cond,
        counts: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run encoder and decoder in one stage.

        Args:
            stage: PIVOTS or DENSE.
            pivots: (R, P, D) embedded pivots.
            values: (R, n, ...) dense tokens.
            known: (R, N) bool, positions that the encoder sees.
            cond: The condition of R rows.
            counts: Smallest and largest number of them in a row; None counts them, which waits for the device.

        Returns:
            The encoder's output (R, S, D), and features (R, N, D) of all positions.
        """
        vectors = class_vectors(self.label, self.null, cond).expand(-1, self.config.buffer, -1)
        x = torch.cat([vectors, pivots, self.token(values)], 1) + self.encoder_positions[stage]
        slots, real = kept_slots(known, self.config.buffer, counts)
        x = gather_positions(self.token_norm(x), slots)
        x = self.encoder_norm(through(self.encoder, x, real, self.encoder_stages(stage), stage))
        # Buffer slots are always kept, so their mask tokens are never seen.
        masks = nn.functional.pad(self.mask_tokens[stage], (0, 0, self.config.buffer, 0))[None]
        y = scattered(self.bridge(x), slots, real, masks) + self.decoder_positions[stage]
        y = through(self.decoder, y, None, self.decoder_stages(stage), stage)
        return x, self.decoder_norm(y)[:, self.config.buffer :] + self.feature_positions

    def pivot_pass(
        self, values: Tensor, known: Tensor, cond: Cond, counts: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the first stage on a canvas (R, N, ...) with (R, N) known tokens; dense ones are masked."""
        known = known & (torch.arange(self.layout.size, device=known.device) < self.pivots)
        pivots, values = values[:, : self.pivots], values[:, self.pivots :]
        return self.pass_of(PIVOTS, self.pivot(pivots), values, known, cond, counts)

    def dense_pass(
        self,
        vectors: Tensor,
        values: Tensor,
        known: Tensor,
        cond: Cond,
        counts: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the second stage on a canvas, with vectors (R, P, D) in place of the pivots."""
        known = known | (torch.arange(self.layout.size, device=known.device) < self.pivots)
        return self.pass_of(DENSE, vectors, values[:, self.pivots :], known, cond, counts)

    def shown(self, features: Tensor, known: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return what the second stage sees of pivots (B, P, D) in training.

        Args:
            features: (B, P, D) of the first stage.
            known: (B, P) bool, pivots that the first stage knew: features of those would give them away.
            hidden: (B,) bool, samples of which it sees no pivots.
        """
        null = known if hidden is None else known | hidden[:, None]
        return torch.where(null[..., None], self.null_vectors(), self.pivot_features(features.detach()))

    def features(self, tokens: Tokens, cond: Cond, plan: Plan) -> Read:
        """Compute both stages in parallel; `stages` has the Read of each.

        The known pivots are those that the first stage sees, the known dense tokens those that the second does.
        """
        return self.staged(tokens, (cond, cond))

    def staged(self, tokens: Tokens, conds: Sequence[Cond], hidden: Tensor | None = None) -> Read:
        """Compute both stages in parallel with a condition each; see `features`, and `shown` for `hidden`."""
        values, known = tokens.values, tokens.known
        first = self.pivot_pass(values, known, conds[PIVOTS])[1][:, : self.pivots]
        vectors = self.shown(first, known[:, : self.pivots], hidden)
        second = self.dense_pass(vectors, values, known, conds[DENSE])[1][:, self.pivots :]
        features = torch.cat([first, second], 1)[:, :, None]
        everything = torch.arange(self.layout.size, device=values.device)[None]
        stages = [
            Read(everything[:, span], features[:, span], known=known[:, span], values=values[:, span])
            for span in map(self.layout.span, (PIVOTS, DENSE))
        ]
        return Read(everything, features, stages=stages)

    def step(self, state: State, tokens: Tokens, step: int) -> Read:
        """Encode what is known now, and read the positions that this step draws."""
        stage, drawn = state.plan.stage[step], state.plan.drawn(step)
        span = self.layout.span(stage)
        values, known = (torch.cat([x] * state.branches) for x in (tokens.values, tokens.known))
        counts = state.counts[step] if state.counts else None
        if stage == PIVOTS:
            if counts and state.given and any(state.given):  # not all of the known tokens are pivots
                counts = 0, self.pivots
            z = self.pivot_pass(values, known, state.cond, counts)[1]
            self._remember(state, z, drawn)
        else:
            vectors = state.repeat(self._vectors(state, tokens))
            z = self.dense_pass(vectors.expand(state.rows, -1, -1), values, known, state.cond, counts)[1]
        positions = torch.arange(span.start, span.stop, device=z.device)[None]
        full = Read(positions, z[:, span, None], known=tokens.known[:, span], values=tokens.values[:, span])
        return Read(drawn, gather_positions(z, state.repeat(drawn))[:, :, None], full=full)

    def _remember(self, state: State, z: Tensor, drawn: Tensor) -> None:
        """Keep the conditional features that pivots are drawn from."""
        if "pivots_B" not in state.tensors:
            state.tensors["pivots_B"] = z.new_zeros(state.batch, self.pivots, self.width)
        index = drawn.expand(state.batch, -1)
        own = gather_positions(z[: state.batch], index)
        # A new tensor: forks share the old one.
        state.tensors["pivots_B"] = state.tensors["pivots_B"].scatter(1, index[..., None].expand_as(own), own)

    def _vectors(self, state: State, tokens: Tokens) -> Tensor:
        """Return what the second stage sees of the pivots (B, P, D), computed when it begins."""
        if "vectors_B" in state.tensors:
            return state.tensors["vectors_B"]
        features = state.tensors.pop("pivots_B", None)
        given = tokens.given[:, : self.pivots]
        if features is None:
            features = self.null.new_zeros(state.batch, self.pivots, self.width)
        steps = range(state.plan.stage.count(PIVOTS))
        for k in [k for k in steps if state.given is None or state.given[k]]:
            features = self._as_if_drawn(features, given, tokens, state, k)
        state.tensors["vectors_B"] = self.pivot_features(features)
        return state.tensors["vectors_B"]

    def _as_if_drawn(
        self, features: Tensor, given: Tensor, tokens: Tokens, state: State, step: int
    ) -> Tensor:
        """Return features (B, P, D) with those that given pivots (B, P) of a step would be drawn from."""
        cond = state.cond.select(torch.arange(state.batch, device=given.device))
        rank = state.plan.slot_rank[:, : self.layout.size].expand(state.batch, -1)
        count = state.plan.committed(step)
        z = self.pivot_pass(tokens.values, rank < step, cond, (count, count))[1][:, : self.pivots]
        return torch.where((given & (rank[:, : self.pivots] == step))[..., None], z, features)
