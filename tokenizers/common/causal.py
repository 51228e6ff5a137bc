"""Building blocks of causal networks of clips: what a frame becomes depends on it and on earlier frames only.

"Language Model Beats Diffusion: Tokenizer is Key to Visual Generation" (MAGVIT-v2), 2023, section 3.2. Published
networks of this kind differ in details that their weights depend on; `CausalStyle` names them.

Every `Causal` block can compute a clip in groups of frames: it keeps in `Tails` what the next group needs of the
earlier ones, and the groups together are the result for the whole clip.

Shapes: B clips, C channels, T frames, H x W pixels. Features are fastest with the channels last in memory
(`torch.channels_last_3d`), in which frames fold into the batch without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.config import Config
from arzoo.tokenizers.common.convolutional import GroupNorm

Padding = Literal["replicate", "zeros"]
Size = tuple[int, int, int]
Tails = dict[nn.Module, Tensor]
"""The last frames that each block has seen of a clip; empty before its first group of frames."""


@dataclass(frozen=True, kw_only=True)
class CausalStyle(Config):
    """Details in which causal convolutional tokenizers differ; the defaults are those of NBP.

    Attributes:
        time_padding: What stands before the first frame of a clip.
        space_padding: What surrounds a frame.
        groups: Groups of GroupNorm; the largest power of two below it that divides a narrower width.
        eps: Epsilon of GroupNorm.
        norm_per: GroupNorm takes its statistics of a frame, or of the whole clip, which is not causal.
        learned_beta: Swish is x * sigmoid(beta * x) with a learned beta for every channel; else beta is 1.
        drop: Which of the frames that upsampling makes of the first one are dropped: all but the last ("first"), or
            all but the first ("later").
    """

    time_padding: Padding = "replicate"
    space_padding: Padding = "replicate"
    groups: int = 32
    eps: float = 1e-5
    norm_per: Literal["frame", "clip"] = "frame"
    learned_beta: bool = True
    drop: Literal["first", "later"] = "first"


class Causal(nn.Module):
    """A block that can compute a clip in groups of frames."""

    def forward(self, x: Tensor, tails: Tails | None = None) -> Tensor:
        """Transform features (B, C, T, H, W).

        Args:
            x: A whole clip, or with `tails` the next group of its frames.
            tails: What earlier groups left for this one; updated. None for a whole clip.
        """
        raise NotImplementedError


class CausalConv3d(Causal):
    """A convolution whose kernel ends at the frame it computes, so all padding in time precedes the first frame.

    Every side is padded by half a kernel (rounded down), and time by twice that, whatever the stride.
    """

    def __init__(
        self, inner: int, outer: int, kernel: Size = (3, 3, 3), stride: Size = (1, 1, 1),
        style: CausalStyle = CausalStyle(),
    ) -> None:  # fmt: skip
        super().__init__()
        self.lead, self.time_padding = 2 * (kernel[0] // 2), style.time_padding
        around = (0, kernel[1] // 2, kernel[2] // 2)
        self.conv = nn.Conv3d(inner, outer, kernel, stride, around, padding_mode=style.space_padding)

    def forward(self, x: Tensor, tails: Tails | None = None) -> Tensor:
        """Features (B, C, T, H, W) -> (B, outer, 1 + (T - 1) // stride, ...)."""
        if self.lead:
            past = None if tails is None else tails.get(self)
            if past is None:
                first = x[:, :, :1]
                first = first if self.time_padding == "replicate" else torch.zeros_like(first)
                past = first.expand(-1, -1, self.lead, -1, -1)
            x = torch.cat([past, x], 2)
        if tails is not None and self.lead:
            stride = self.conv.stride[0]
            steps = (x.shape[2] - self.conv.kernel_size[0]) // stride + 1
            tails[self] = x[:, :, steps * stride :].clone()
        return self.conv(x)


class FrameNorm(GroupNorm):
    """GroupNorm of clips, with statistics of every frame or of the whole clip."""

    def __init__(self, channels: int, style: CausalStyle = CausalStyle()) -> None:
        super().__init__(math.gcd(style.groups, channels), channels, eps=style.eps)
        self.per_frame = style.norm_per == "frame"

    def forward(self, x: Tensor) -> Tensor:
        """Normalize features (B, C, T, H, W)."""
        if not self.per_frame:
            return super().forward(x.flatten(2, 3)).unflatten(2, x.shape[2:4])
        frames = super().forward(x.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, (len(x), -1)).transpose(1, 2)


class Swish(nn.Module):
    """x * sigmoid(beta * x), with a learned beta for every channel that starts at 1, or with beta = 1."""

    def __init__(self, channels: int, style: CausalStyle = CausalStyle()) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(1, channels, 1, 1, 1)) if style.learned_beta else None

    def forward(self, x: Tensor) -> Tensor:
        """Transform features (B, C, T, H, W)."""
        if self.beta is None:
            return F.silu(x)
        y = self.beta * x
        if torch.is_grad_enabled():
            return x * torch.sigmoid(y)
        return y.sigmoid_().mul_(x)  # features of a published size are large: no further copies of them


class CausalSequence(nn.Sequential, Causal):
    """Blocks one after another."""

    def forward(self, x: Tensor, tails: Tails | None = None) -> Tensor:
        """Transform features (B, C, T, H, W)."""
        return in_turn(self, x, tails)


def in_turn(blocks: Iterable[nn.Module], x: Tensor, tails: Tails | None) -> Tensor:
    """Transform features (B, C, T, H, W) with one block after another."""
    for block in blocks:
        x = block(x, tails) if isinstance(block, Causal) else block(x)
    return x


class ResidualUnit(Causal):
    """norm - swish - conv - norm - swish - conv, plus a 1x1x1 shortcut where the width changes."""

    def __init__(self, inner: int, outer: int, style: CausalStyle = CausalStyle()) -> None:
        super().__init__()
        self.branch = CausalSequence(
            FrameNorm(inner, style), Swish(inner, style), CausalConv3d(inner, outer, style=style),
            FrameNorm(outer, style), Swish(outer, style), CausalConv3d(outer, outer, style=style),
        )  # fmt: skip
        self.shortcut = nn.Conv3d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor, tails: Tails | None = None) -> Tensor:
        """Transform features (B, C, T, H, W)."""
        y = self.branch(x, tails)  # before the shortcut, which needs memory of its own
        return self.shortcut(x) + y


class DepthToSpace(Causal):
    """Unfold channels into frames, rows and columns, so T frames become 1 + (T - 1) * factors[0].

    The channel of frame a, row b and column c of a patch is ((a * factors[1] + b) * factors[2] + c) * C + channel.
    """

    def __init__(self, factors: Size, style: CausalStyle = CausalStyle()) -> None:
        super().__init__()
        self.factors, self.drop = factors, style.drop

    def forward(self, x: Tensor, tails: Tails | None = None) -> Tensor:
        """Features (B, factors * C, T, H, W) -> (B, C, 1 + (T - 1) * factors[0], H * factors[1], W * factors[2])."""
        batch, _, frames, height, width = x.shape
        a, b, c = self.factors
        x = x.permute(0, 2, 3, 4, 1).unflatten(4, (a, b, c, -1)).permute(0, 1, 4, 2, 5, 3, 6, 7)
        x = x.reshape(batch, frames * a, height * b, width * c, -1).permute(0, 4, 1, 2, 3)
        if a == 1 or (tails is not None and self in tails):
            return x
        if tails is not None:
            tails[self] = x.new_empty(0)  # the first frame has passed
        return x[:, :, a - 1 :] if self.drop == "first" else torch.cat([x[:, :, :1], x[:, :, a:]], 2)
