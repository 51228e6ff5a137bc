"""MAR: a bidirectional encoder-decoder over the known tokens, for masked generation in random order.

"Autoregressive Image Generation without Vector Quantization" (MAR, 2024), sections 3.3 and 4. The encoder sees some
buffer tokens, all equal to the class vector, and then the known tokens; the decoder sees these and mask tokens, and
gives one feature vector per position. Decisions, all from the published code:

* pre-norm ViT blocks (timm's), learned positions three times: before the encoder, before the decoder and after it;
* the encoder's input is normed after its positions are added, and has the known tokens in the order of the layout;
* attention ignores the plan's mask: a step encodes all known tokens again, without a cache.

Shapes: R rows, N positions, b buffer tokens, S kept inputs, D width, C channels.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.canvas import BackboneConfig
from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Read
from arzoo.core.layout import Grid
from arzoo.core.plan import Plan
from arzoo.core.state import State
from arzoo.core.tokens import Tokens, gather_positions
from arzoo.models.common.embeddings import embed_all, token_table
from arzoo.models.common.initialise import xavier

_norm = functools.partial(nn.LayerNorm, eps=1e-6)


@dataclass(frozen=True, kw_only=True)
class MARConfig(BackboneConfig):
    """Sizes of a `MAR`.

    Attributes:
        width: Channels of the encoder.
        depth: Blocks of the encoder.
        heads: Attention heads of the encoder.
        decoder_width: Channels of the decoder and of the features, 0 for those of the encoder.
        decoder_depth: Blocks of the decoder, 0 for the encoder's number.
        decoder_heads: Attention heads of the decoder, 0 for the encoder's number.
        mlp_ratio: Width of the feed-forward layers over that of their block.
        channels: Numbers per continuous token, 0 for codes.
        vocab: Codes of the tokenizer, 0 for continuous tokens.
        codebooks: Codes per position; their embeddings are summed.
        grid: (t, h, w) of the token canvas.
        classes: Number of classes, 0 for an unconditional model.
        buffer: Number of buffer tokens.
        attention_dropout: Dropout of attention weights.
        dropout: Dropout after attention, and inside and after the feed-forward layers.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    decoder_width: int = 0
    decoder_depth: int = 0
    decoder_heads: int = 0
    mlp_ratio: float = 4.0
    channels: int = 16
    vocab: int = 0
    codebooks: int = 1
    grid: tuple[int, int, int] = (1, 16, 16)
    classes: int = 1000
    buffer: int = 64
    attention_dropout: float = 0.1
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for width, heads in ((self.width, self.heads), self.decoder[::2]):
            if width % heads:
                raise ArzooError(f"width {width} is not a multiple of {heads} heads")
        self.require_one_kind()
        if self.buffer < 1:
            raise ArzooError(
                f"the encoder starts from at least 1 buffer token, which holds the class; got {self.buffer}"
            )

    @property
    def layout(self) -> Grid:
        """Positions of the canvas."""
        return Grid(*self.grid)

    @property
    def decoder(self) -> tuple[int, int, int]:
        """Width, blocks and heads of the decoder."""
        return (
            self.decoder_width or self.width,
            self.decoder_depth or self.depth,
            self.decoder_heads or self.heads,
        )

    def build(self) -> MAR:
        """Build a network with fresh weights."""
        return MAR(self)


class MAR(Backbone):
    """The backbone of MAR. Its canvas holds vectors (B, N, C), or codes (B, N) or (B, N, Q), Q codebooks.

    `width` is the number of channels of its features, those of the decoder.
    """

    config: MARConfig
    readouts, bidirectional = frozenset({"inplace"}), True
    gives = frozenset({"features", "full"})

    def __init__(self, config: MARConfig) -> None:
        super().__init__()
        self.config, self.layout = config, config.layout
        width, slots = config.width, config.buffer + self.layout.size
        self.width, depth, heads = config.decoder
        block = functools.partial(
            Block, mlp_ratio=config.mlp_ratio, qkv_bias=True, norm_layer=_norm,
            attn_drop=config.attention_dropout, proj_drop=config.dropout,
        )  # fmt: skip
        self.label = nn.Embedding(config.classes, width) if config.classes else None
        self.null = nn.Parameter(torch.zeros(1, width))
        self.token = token_table(config.vocab, config.codebooks, config.channels, width)
        self.encoder_positions = nn.Parameter(torch.zeros(1, slots, width))
        self.token_norm = _norm(width)
        self.encoder = nn.ModuleList(block(width, config.heads) for _ in range(config.depth))
        self.encoder_norm = _norm(width)
        self.bridge = nn.Linear(width, self.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.decoder_positions = nn.Parameter(torch.zeros(1, slots, self.width))
        self.decoder = nn.ModuleList(block(self.width, heads) for _ in range(depth))
        self.decoder_norm = _norm(self.width)
        self.feature_positions = nn.Parameter(torch.zeros(1, self.layout.size, self.width))
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

    def class_vector(self, cond: Cond) -> Tensor:
        """Return class vectors (R, 1, D), the null vector for rows without a class or with a dropped one."""
        return class_vectors(self.label, self.null, cond)

    def encode(
        self, values: Tensor, known: Tensor, cond: Cond, counts: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Encode the known tokens.

        Args:
            values: (R, N, C), or (R, N) or (R, N, Q) codes.
            known: (R, N) bool.
            cond: The condition of R rows.
            counts: Smallest and largest number of known tokens of a row; None counts them, which waits for the device.

        Returns:
            Features (R, S, D) of the buffer and of the known positions in the order of the layout; the slots (R, S)
            they belong to; and (R, S) bool, False where a row knows fewer than another and its slot is padding, None
            without padding.
        """
        vectors = self.class_vector(cond).expand(-1, self.config.buffer, -1)
        x = self.token_norm(
            torch.cat([vectors, embed_all(self.token, values, self.config.vocab)], 1) + self.encoder_positions
        )
        slots, real = kept_slots(known, self.config.buffer, counts)
        x = gather_positions(x, slots)
        x = through(self.encoder, x, real)
        return self.encoder_norm(x), slots, real

    def decode(self, encoded: Tensor, slots: Tensor, real: Tensor | None) -> Tensor:
        """Compute the features (R, N, D) of all positions from the output of `encode`."""
        masks = self.mask_token.expand(-1, self.decoder_positions.shape[1], -1)
        y = scattered(self.bridge(encoded), slots, real, masks) + self.decoder_positions
        y = through(self.decoder, y)
        return self.decoder_norm(y)[:, self.config.buffer :] + self.feature_positions

    def features(self, tokens: Tokens, cond: Cond, plan: Plan) -> Read:
        """Compute the features of all positions from the known tokens (in training those before some step)."""
        positions = torch.arange(self.layout.size, device=tokens.values.device)[None]
        return Read(positions, self.decode(*self.encode(tokens.values, tokens.known, cond))[:, :, None])

    def step(self, state: State, tokens: Tokens, step: int) -> Read:
        """Encode what is known now, and read the positions that this step draws."""
        values, known = (torch.cat([x] * state.branches) for x in (tokens.values, tokens.known))
        z = self.decode(*self.encode(values, known, state.cond, state.counts[step] if state.counts else None))
        drawn = state.plan.drawn(step)
        everything = torch.arange(self.layout.size, device=z.device)[None]
        full = Read(everything, z[:, :, None], known=tokens.known, values=tokens.values)
        return Read(drawn, gather_positions(z, state.repeat(drawn))[:, :, None], full=full)


def class_vectors(label: nn.Embedding | None, null: Tensor, cond: Cond) -> Tensor:
    """Class vectors (R, 1, D) from a table of classes, the null vector (1, D) for rows without one."""
    if label is None:
        return null.expand(cond.batch, -1)[:, None]
    return torch.where(cond.unlabelled[:, None], null, label(cond.label_or(0)))[:, None]


def kept_slots(
    known: Tensor, buffer: int, counts: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor | None]:
    """Slots of an encoder's inputs: the buffer, then the known positions in the order of the layout.

    Args:
        known: (R, N) bool.
        buffer: Number of buffer tokens before the positions.
        counts: See `MAR.encode`.

    Returns:
        The slots (R, S), and (R, S) bool, see `MAR.encode`.
    """
    keep, kept = F.pad(known, (buffer, 0), value=True), known.sum(1)
    least, most = counts or torch.stack(kept.aminmax()).tolist()
    real = None
    if least < most:
        real = torch.arange(buffer + most, device=known.device) < buffer + kept[:, None]
    return torch.argsort(keep, dim=1, descending=True, stable=True)[:, : buffer + most], real


def scattered(x: Tensor, slots: Tensor, real: Tensor | None, mask_tokens: Tensor) -> Tensor:
    """Inputs (R, N, D) of a decoder: vectors x (R, S, D) at their slots, and mask tokens (1, N, D) everywhere else."""
    y = mask_tokens.to(x.dtype).expand(len(x), -1, -1)
    if real is not None:
        x = torch.where(real[..., None], x, gather_positions(y, slots))
    return y.scatter(1, slots[..., None].expand_as(x), x)


def through(blocks: nn.ModuleList, x: Tensor, real: Tensor | None = None, *more: object) -> Tensor:
    """Apply a stack of blocks; for training on a CPU it avoids the fused kernel, see `attention.attend`.

    Args:
        blocks: Blocks of timm, whose unfused attention adds its mask to the scores.
        x: (R, S, D).
        real: (R, S) bool, the slots that may be attended to; None for all.
        more: What the blocks take besides.
    """
    mask = None if real is None else real[:, None, None]
    for block in blocks:
        block.attn.fused_attn = not (block.training and x.device.type == "cpu")
        if mask is not None and not block.attn.fused_attn and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, -math.inf)
        x = block(x, *more) if mask is None else block(x, *more, attn_mask=mask)
    return x
