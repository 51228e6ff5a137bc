"""LongCat-Next in small: a causal transformer over one sequence of text, the size of a picture, and its codes.

"LongCat-Next: Lexicalizing Modalities as Discrete Tokens", 2026. The sequence is

    text, <size>, "H W", </size>, <start>, row of codes, <newline>, row of codes, ..., row of codes

where H and W are the rows and columns of tokens in digits, so one network draws pictures of any size. Positions are
ordinary, one per input. The codes of a position have embeddings of their own, which are added up, and pass a gated
layer (the pre-buffer) before the first block. Texts and digits are the bytes of UTF-8, where the published model has a
table of words. For classifier-free guidance the embeddings of the text are zero, while the size stays.

With `describes` the same weights also read a picture and draw a text. Pictures to be understood have no newlines:

    <size>, "H W", </size>, <start>, codes in raster order, <end>, text

The order says which: one of a grid draws a picture, one of `Ordered` places a text (`Backbone.words`). Texts have no
guidance, as training has no null picture.

Shapes: R rows, L text tokens, P prefix tokens, S slots, Q codebooks, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.canvas import BackboneConfig
from arzoo.core.condition import Cond
from arzoo.core.layout import Grid, Ordered
from arzoo.core.plan import Plan
from arzoo.models.common.attention import Block, Dropout, KeyValue, SwiGLU, empty_cache
from arzoo.models.common.decoder_only import CachedDecoder
from arzoo.models.common.embeddings import embed_tokens
from arzoo.models.common.rope import require_rotary, rope_table, turns
from arzoo.models.heads.categorical import Categorical, CategoricalConfig

MARKS = 4
"""Symbols after the ids of texts: the beginning and end of a size, the start of a picture, and a new line."""
_SIZE, _SIZE_END, _START, _NEWLINE = range(MARKS)


@dataclass(frozen=True, kw_only=True)
class LongCatConfig(BackboneConfig):
    """Sizes of a `LongCat`.

    Attributes:
        width: Channels of the residual stream.
        depth: Blocks.
        heads: Attention heads; width / heads is a multiple of 4.
        hidden: Hidden units of the gated feed-forward layers, and of the pre-buffer.
        vocab: Codes of a codebook.
        codebooks: Codes per position; their embeddings are summed.
        text_width: Numbers per text token: 1, its id.
        text_vocab: Number of text ids, of which the first 256 are bytes.
        text_length: Tokens of a text, with padding on the left.
        rows: Largest number of rows of tokens.
        inputs: Largest number of inputs, from the first token of the text to the last code.
        norm_eps: Epsilon of the norms.
        token_dropout: Dropout of the input embeddings.
        dropout: Dropout after attention and feed-forward.
        shared_dropout: One dropout mask for all positions of a sample (faster on a CPU).
        describes: Also read pictures and draw their texts, with a head over the ids of texts.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 2048
    vocab: int = 16384
    codebooks: int = 8
    text_width: int = 1
    text_vocab: int = 257
    text_length: int = 64
    rows: int = 64
    inputs: int = 4096
    norm_eps: float = 1e-6
    token_dropout: float = 0.1
    dropout: float = 0.1
    shared_dropout: bool = False
    describes: bool = False

    def __post_init__(self) -> None:
        require_rotary(self.width, self.heads)
        if self.text_width != 1 or self.text_vocab < 256:
            raise ArzooError(
                "texts are ids, one number per token, of a vocabulary that begins with the 256 bytes; got "
                f"text_width={self.text_width}, text_vocab={self.text_vocab}. Use the text encoder `bytes`"
            )
        if self.describes and self.text_vocab < 257:
            raise ArzooError(
                f"a text that is drawn ends with the last id, which is no byte: describes=true needs text_vocab=257 or "
                f"more, got {self.text_vocab}"
            )

    @property
    def extras(self) -> int:
        """Newlines: one after every row but the last."""
        return self.rows - 1

    def build(self) -> LongCat:
        """Build a network with fresh weights."""
        return LongCat(self)


class LongCat(CachedDecoder):
    """The backbone of LongCat-Next in small.

    Its canvas: codes (B, N) or (B, N, Q) of a grid of any size, or the ids (B, L) of texts about such pictures.
    """

    config: LongCatConfig
    padded = True
    copies = False  # the place of an input is the number of inputs fed before
    axes = 1
    rope: Tensor

    def __init__(self, config: LongCatConfig) -> None:
        super().__init__()
        self.config, self.width, self.extras = config, config.width, config.extras
        self.word = nn.Embedding(config.text_vocab + MARKS, config.width)
        self.token = nn.Embedding(config.vocab * config.codebooks, config.width)
        self.buffer_norm = nn.LayerNorm(config.width)
        self.buffer = SwiGLU(config.width, config.hidden)
        self.dropout = Dropout(config.token_dropout, config.shared_dropout)
        block = (
            config.width,
            config.heads,
            config.hidden,
            config.norm_eps,
            config.dropout,
            config.shared_dropout,
        )
        self.blocks = nn.ModuleList(Block(*block) for _ in range(config.depth))
        self.register_buffer("rope", self._rope(), persistent=False)
        self.end = nn.Embedding(1, config.width) if config.describes else None
        self.apply(_initialise)
        self.word_head = (
            CategoricalConfig(width=config.width, vocab=config.text_vocab).build()
            if config.describes
            else None
        )

    @property
    def words(self) -> Categorical | None:
        """Head over the ids of texts."""
        return self.word_head

    def _rope(self) -> Tensor:
        places = torch.arange(self.config.inputs)[:, None]
        return rope_table(places, self.config.width // self.config.heads)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LongCat:
        """Cast or move the weights; the rotary table stays in float32."""
        super()._apply(fn, recurse)
        if self.rope.dtype != torch.float32:
            self.rope = self._rope().to(self.rope.device)
        return self

    def repeated_blocks(self) -> list[nn.Module]:
        """Return its transformer blocks."""
        return [*self.blocks]

    def prefix(self, cond: Cond) -> Tensor:
        """Embed the text as (R, L, D), zero where it is dropped.

        Raises:
            ArzooError: The condition has no text, or one of another length or vocabulary.
        """
        config = self.config
        if cond.text is None or cond.text_mask is None or cond.prefix is not None:
            raise ArzooError(
                "this model reads texts: give prompts, or the ids of texts (B, L) and their mask, and no picture"
            )
        text = cond.text
        if text.shape[1:] != (config.text_length,) or text.is_floating_point():
            raise ArzooError(
                f"texts are {config.text_length} ids of type int64, got {tuple(text.shape[1:])} {text.dtype}"
            )
        if bool(((text < 0) | (text >= config.text_vocab)).any()):
            raise ArzooError(
                f"ids of texts are 0 to {config.text_vocab - 1}, got {int(text.min())} to {int(text.max())}"
            )
        return self.word(text) * ~cond.dropped[:, None, None]

    def prefix_of(self, cond: Cond, plan: Plan) -> Tensor:
        """Embed text, size and start of a picture as (R, P, D), or for an order of texts the picture with its size.

        Raises:
            ArzooError: The picture has more rows, or the sequence more inputs, than the model takes; also as `prefix`
                and `picture`.
        """
        layout, config = plan.layout, self.config
        if isinstance(layout, Ordered):
            return self._checked(self.picture(cond), plan)
        if not isinstance(layout, Grid) or layout.t * layout.h > config.rows:
            raise ArzooError(
                f"this model draws pictures of at most {config.rows} rows of tokens, got {layout}: draw smaller ones, "
                "or build it with more rows"
            )
        return self._checked(torch.cat([self.prefix(cond), self._size(layout, cond)], 1), plan)

    def picture(self, cond: Cond) -> Tensor:
        """Embed a picture between its size and its end as (R, P, D).

        Raises:
            ArzooError: The model was not built to describe pictures, or the condition is no picture of its codes.
        """
        config, codes, grid = self.config, cond.prefix, cond.grid
        if self.end is None:
            raise ArzooError("this model draws pictures and no texts: it was not built with describes=true")
        one = () if config.codebooks == 1 else (config.codebooks,)
        if codes is None or grid is None or codes.shape[1:] != (grid.size, *one) or codes.is_floating_point():
            given = "none" if codes is None else f"{tuple(codes.shape)} {codes.dtype} of {grid}"
            shape = ", ".join(["B", "N", *map(str, one)])
            raise ArzooError(
                f"a text describes the codes ({shape}) int64 of a picture on a grid of N, got {given}"
            )
        if bool(((codes < 0) | (codes >= config.vocab)).any()):
            raise ArzooError(
                f"codes of pictures are 0 to {config.vocab - 1}, got {int(codes.min())} to {int(codes.max())}"
            )
        end = self.end.weight.expand(cond.batch, 1, -1)
        places = torch.arange(grid.size, device=codes.device)[None].expand(cond.batch, -1)
        return torch.cat([self._size(grid, cond), self._codes(codes, places), end], 1)

    def _checked(self, prefix: Tensor, plan: Plan) -> Tensor:
        """Refuse a sequence that is longer than the rotary table."""
        length = prefix.shape[1] + plan.slots - plan.groups[-1].shape[1]
        if length > self.config.inputs:
            raise ArzooError(
                f"text, size and picture are {length} inputs, the model takes {self.config.inputs}: take smaller "
                f"pictures, or build it with inputs={length} or more"
            )
        return prefix

    def _size(self, grid: Grid, cond: Cond) -> Tensor:
        """Embed the size of a picture, and its start, for all rows."""
        mark = self.config.text_vocab
        digits = f"{grid.t * grid.h} {grid.w}".encode()
        ids = torch.tensor([mark + _SIZE, *digits, mark + _SIZE_END, mark + _START])
        return self.word(ids.to(self.word.weight.device)).expand(cond.batch, -1, -1)

    def prefix_keys(self, cond: Cond, count: int) -> Tensor:
        """Return (R, P) bool: text without padding, and the size; all of a picture."""
        if cond.prefix is not None:
            return super().prefix_keys(cond, count)
        assert cond.text_mask is not None
        text = cond.text_mask.bool()
        return torch.cat([text, text.new_ones(len(text), count - text.shape[1])], 1)

    def embed(self, values: Tensor, slots: Tensor, plan: Plan) -> Tensor:
        """Embed codes, which pass the pre-buffer, and newlines in the slots after them; or the ids of texts."""
        size = plan.layout.size
        index = slots.clamp(max=size - 1).expand(len(values), -1)
        if isinstance(plan.layout, Ordered):
            return self.word(values.gather(1, index))
        x = self._codes(values, index)
        newline = self.word.weight[self.config.text_vocab + _NEWLINE]
        return torch.where((slots < size)[..., None], x, newline.to(x.dtype))

    def _codes(self, values: Tensor, index: Tensor) -> Tensor:
        """Embed the codes at places (R, S)."""
        x = embed_tokens(self.token, values, index, self.config.vocab)
        return x + self.buffer(self.buffer_norm(x))

    def new_cache(self, rows: int, capacity: int) -> list[KeyValue]:
        """Allocate static keys and values for each block."""
        return empty_cache(len(self.blocks), rows, self.width, self.config.heads, capacity, self.word.weight)

    def trunk(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        cache: list[KeyValue] | None,
        fill: int,
        cond: Cond,
    ) -> Tensor:
        """Compute the output of the last block, (R, S, 1, D)."""
        x, rope = self.dropout(x), turns(self.rope[None, fill : fill + x.shape[1]])
        for i, block in enumerate(self.blocks):
            x = block(x, rope, mask, None if cache is None else cache[i], fill)
        return x[:, :, None]


def _initialise(module: nn.Module) -> None:
    """Initialize with deviation 0.02."""
    if isinstance(module, nn.Linear | nn.Embedding) and not module.weight.is_meta:
        nn.init.normal_(module.weight, std=0.02)
