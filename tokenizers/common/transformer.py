"""The transformer block of KARL, LARP, TiTok and One-D-Piece: pre-norm, biases, exact GELU."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.config import Config, refuse_outside
from arzoo.base.errors import ArzooError
from arzoo.models.common.attention import attend


@dataclass(frozen=True, kw_only=True)
class StackConfig(Config):
    """A stack of blocks.

    Attributes:
        width: Channels D.
        depth: Blocks.
        heads: Attention heads.
    """

    width: int = 512
    depth: int = 8
    heads: int = 8

    def __post_init__(self) -> None:
        refuse_outside(self, "", dict.fromkeys(("width", "depth", "heads"), (1, math.inf)))
        if self.width % self.heads:
            raise ArzooError(f"a width must be a multiple of its heads, got {self.width} and {self.heads}")


def table(width: int, *shape: int) -> nn.Parameter:
    """Learned table with normal initial values of variance 1 / width."""
    return nn.Parameter(width**-0.5 * torch.randn(*shape))


class Block(nn.Module):
    """Attention and feed-forward; `qkv` is [q | k | v].

    Shapes: B samples, S tokens, D width.
    """

    def __init__(self, width: int, heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-5) for _ in range(2))
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=qkv_bias), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        nn.init.xavier_uniform_(self.qkv.weight)

    def forward(self, x_BSD: Tensor, mask: Tensor | None = None, outputs: slice = slice(None)) -> Tensor:
        """Transform.

        Args:
            x_BSD: Tokens.
            mask: (1 or B, 1 or heads, 1 or outputs, S), True where a token may attend.
            outputs: Tokens to transform; the others are only attended to.
        """
        heads = self.qkv(self.norm1(x_BSD)).unflatten(-1, (3 * self.heads, -1))
        q, k, v = (part.transpose(1, 2) for part in heads.chunk(3, 2))
        x_BSD = x_BSD[:, outputs] + self.proj(attend(q[:, :, outputs], k, v, mask).transpose(1, 2).flatten(2))
        return x_BSD + self.down(F.gelu(self.up(self.norm2(x_BSD))))


def transform(blocks: nn.ModuleList, x_BSD: Tensor, outputs: slice, mask: Tensor | None = None) -> Tensor:
    """Apply a stack of blocks, the last one only to the tokens that are read from it.

    Args:
        blocks: Blocks.
        x_BSD: Tokens.
        outputs: Tokens to read.
        mask: (1 or B, 1 or heads, 1 or S, S), True where a token may attend.
    """
    for block in blocks[:-1]:
        x_BSD = block(x_BSD, mask)
    if mask is not None and mask.shape[2] > 1:
        mask = mask[:, :, outputs]
    return blocks[-1](x_BSD, mask, outputs)
