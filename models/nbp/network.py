"""NBP: a causal transformer whose inputs know their place in the sequence, for blocks of tokens.

"Next Block Prediction: Video Generation via Semi-Autoregressive Modeling", 2025. `models.llamagen`, with learned
transition inputs and rotary positions, serves for new next-block models; published weights need this network, because

* positions are a learned table, indexed by the place in the flattened sequence of text, beginning-of-video, codes and
  middle-of-block tokens, in the order of feeding, not by frame, row and column;
* blocks have LayerNorm, biases and an exact GELU, where LlamaGen has RMSNorm, none and SwiGLU;
* text ids, special tokens and codes share one table of embeddings, and one softmax: the head, `categorical_layer_norm`,
  has their number as its `shift`. A text or special id that is drawn counts as code 0, as published.

The vocabulary: id 0 begins the video, ids 1..E are the transition inputs, then come the ids of the text (or of classes,
a text of one id), then the codes. An unconditional model has codes alone and no prefix: its first tokens are given.

Shapes: R rows, L text tokens, P prefix tokens, S slots, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.canvas import BackboneConfig
from arzoo.core.condition import Cond
from arzoo.core.layout import Grid
from arzoo.core.plan import Plan
from arzoo.models.common.activations import gelu
from arzoo.models.common.attention import Attention, Dropout, KeyValue, empty_cache
from arzoo.models.common.decoder_only import CachedDecoder

PAD = 2
"""The id that fills short texts: LLaMA's end of sequence."""


@dataclass(frozen=True, kw_only=True)
class NBPConfig(BackboneConfig):
    """Sizes of an `NBP`.

    Attributes:
        width: Channels of the residual stream.
        depth: Blocks.
        heads: Attention heads.
        vocab: Codes of the tokenizer.
        grid: (t, h, w) of the token canvas.
        classes: Number of classes, 0 for texts or without a condition.
        text_vocab: Number of text ids, 0 for classes or without a condition.
        text_length: Ids of a text, 0 for classes or without a condition.
        extras: Transition inputs, one less than the tokens of a block; 0 without a condition.
        positions: Rows of the table of places in the sequence.
        norm_eps: Epsilon of the LayerNorms.
        token_dropout: Dropout of the input embeddings.
        dropout: Dropout after attention and feed-forward.
        shared_dropout: One dropout mask for all positions of a sample (faster on a CPU).
    """

    width: int = 1536
    depth: int = 24
    heads: int = 16
    vocab: int = 64000
    grid: tuple[int, int, int] = (5, 16, 16)
    classes: int = 0
    text_vocab: int = 0
    text_length: int = 0
    extras: int = 0
    positions: int = 5120
    norm_eps: float = 1e-5
    token_dropout: float = 0.1
    dropout: float = 0.1
    shared_dropout: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ArzooError(f"width {self.width} is not a multiple of {self.heads} heads")
        if (self.text_vocab > 0) != (self.text_length > 0) or (self.text_vocab > 0 and self.classes > 0):
            raise ArzooError(
                "condition on classes, on texts (text_vocab and text_length), or on nothing, and set the others to 0; "
                f"got classes={self.classes}, text_vocab={self.text_vocab}, text_length={self.text_length}"
            )
        if self.extras and not self.prefix_length:
            raise ArzooError(
                f"transition inputs follow a condition: extras={self.extras} needs classes or texts"
            )

    @property
    def layout(self) -> Grid:
        """Positions of the canvas."""
        return Grid(*self.grid)

    @property
    def text_width(self) -> int:
        """A text is one number per token, its id."""
        return int(self.text_vocab > 0)

    @property
    def prefix_length(self) -> int:
        """Inputs before the first code: a text or class, and the beginning of the video; none without a condition."""
        length = self.text_length or int(self.classes > 0)
        return length and length + 1

    @property
    def shift(self) -> int:
        """Ids before that of the first code."""
        return self.prefix_length and 1 + self.extras + (self.text_vocab or self.classes)

    def build(self) -> NBP:
        """Build a network with fresh weights."""
        return NBP(self)


class Block(nn.Module):
    """Pre-norm block with LayerNorm and biases."""

    def __init__(self, config: NBPConfig) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.attention = Attention(width, config.heads, qkv_bias=True, proj_bias=True)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = Dropout(config.dropout, config.shared_dropout)

    def forward(self, x: Tensor, mask: Tensor | None, cache: KeyValue | None, fill: int) -> Tensor:
        """Apply the block; arguments as in `Attention.forward`."""
        x = x + self.dropout(self.attention(self.norm1(x), None, mask, cache, fill))
        return x + self.dropout(self.fc2(gelu(self.fc1(self.norm2(x)))))


class NBP(CachedDecoder):
    """The backbone of NBP. Its canvas holds codes (B, N)."""

    config: NBPConfig
    code_head = "categorical_layer_norm"
    copies = False  # a place in the sequence is the number of inputs fed before
    null: Tensor

    def __init__(self, config: NBPConfig) -> None:
        super().__init__()
        self.config, self.width, self.extras, self.layout = config, config.width, config.extras, config.layout
        self.token = nn.Embedding(config.shift + config.vocab, config.width)
        self.place = nn.Parameter(torch.zeros(1, config.positions, config.width))
        text = max(config.prefix_length - 1, 0)
        # Stands for a text that is dropped; not trained, as published.
        self.register_buffer("null", torch.randn(text, config.width) / config.width**0.5)
        self.dropout = Dropout(config.token_dropout, config.shared_dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.apply(_initialise)

    def repeated_blocks(self) -> list[nn.Module]:
        """Return its transformer blocks."""
        return [*self.blocks]

    def ids(self, cond: Cond) -> Tensor:
        """Ids (R, P) of the prefix in the shared vocabulary.

        Raises:
            ArzooError: The condition has no text, or one of another length or vocabulary.
        """
        config = self.config
        if not config.prefix_length:
            return torch.zeros(cond.batch, 0, dtype=torch.long, device=cond.dropped.device)
        if config.classes:
            text = cond.label_or(0)[:, None]
        elif cond.text is None:
            raise ArzooError(
                "this model reads texts: give their ids (B, L), or prompts and the file of the text tokenizer"
            )
        else:
            text = cond.text
            if text.shape[1:] != (config.text_length,) or text.is_floating_point():
                raise ArzooError(
                    f"texts are {config.text_length} ids of type int64, got {tuple(text.shape[1:])} {text.dtype}"
                )
            if bool(((text < 0) | (text >= config.text_vocab)).any()):
                raise ArzooError(
                    f"ids of texts are 0 to {config.text_vocab - 1}, got {int(text.min())} to {int(text.max())}: they "
                    "are of another tokenizer than the model was trained with"
                )
        return F.pad(text + 1 + config.extras, (0, 1))

    def prefix(self, cond: Cond) -> Tensor:
        """Embed text and beginning of the video as (R, P, D)."""
        x = self.token(self.ids(cond))
        if not self.config.prefix_length:
            return x
        dropped = cond.unlabelled if self.config.classes else cond.dropped
        text = torch.where(dropped[:, None, None], self.null.to(x.dtype), x[:, :-1])
        return torch.cat([text, x[:, -1:]], 1)

    def prefix_of(self, cond: Cond, plan: Plan) -> Tensor:
        """Embed the condition; see `prefix`.

        Raises:
            ArzooError: The sequence of the plan is longer than the table of places.
        """
        length = self.config.prefix_length + plan.slots - plan.groups[-1].shape[1]
        if length > self.config.positions:
            raise ArzooError(
                f"plan {plan.name!r} feeds {length} inputs, the model has {self.config.positions} positions: build it "
                f"with positions={length} or more"
            )
        return self.prefix(cond)

    def prefix_mask(self, cond: Cond, count: int) -> Tensor | None:
        """Return the mask (R, P, P): the text sees itself in both directions, the beginning of the video sees all."""
        if count == 0:
            return None
        ids = self.ids(cond)
        causal = torch.ones(count, count, dtype=torch.bool, device=ids.device).tril()
        # The published code compares shifted ids with the pad id plus 1, so padding is hidden, from earlier tokens
        # alone, only where blocks have one token.
        seen = ids != PAD + 1
        seen[:, -1] = False
        return causal | seen[:, None]

    def embed(self, values: Tensor, slots: Tensor, plan: Plan) -> Tensor:
        """Embed codes, and transition inputs in the slots after them."""
        size = plan.layout.size
        codes = values.gather(1, slots.clamp(max=size - 1).expand(len(values), -1))
        return self.token(torch.where(slots < size, codes + self.config.shift, slots - size + 1))

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
        """Compute the output of the last block, (R, S, 1, D)."""
        x = self.dropout(x + self.place[:, fill : fill + x.shape[1]])
        for i, block in enumerate(self.blocks):
            x = block(x, mask, None if cache is None else cache[i], fill)
        return x[:, :, None]


def _initialise(module: nn.Module) -> None:
    """Initialize as published: weights with deviation 0.02, biases at zero."""
    if isinstance(module, nn.Linear | nn.Embedding) and not module.weight.is_meta:
        nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
