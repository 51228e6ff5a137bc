"""The networks of OmniTokenizer: transformers over space and time between patches and latents.

Shapes: B clips of T frames of H x W pixels, t x h x w tokens, D width; R rows of S tokens, see `layers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from arzoo.base.config import Config, refuse_outside
from arzoo.base.errors import ArzooError
from arzoo.tokenizers.omnitok.layers import (
    Attention,
    ClipConvolution,
    FeedForward,
    OffsetBias,
    WindowAttention,
    distance_bias,
    frame_turns,
)

if TYPE_CHECKING:
    from arzoo.tokenizers.omnitok.tokenizer import OmniTokenizer


@dataclass(frozen=True, kw_only=True)
class OmniTokenizerConfig(Config):
    """Sizes of an `OmniTokenizer`, and what its published code does. The defaults are those of the released models.

    Attributes:
        image_size: Side of the square frames.
        frames: Frames of a clip, one and a multiple of `time_patch`.
        patch: Side of a patch in pixels.
        time_patch: Frames of a patch, of all but the first frame.
        width: Width D of a token.
        heads: Attention heads.
        head_width: Channels of a head; heads of window attention share `width` evenly.
        hidden: Hidden units of a feed-forward layer.
        encoder_blocks: A letter for each block over space: t attends to the whole frame, w inside windows.
        decoder_blocks: The same for the decoder.
        time_blocks: Blocks over time, in the encoder and in the decoder.
        window: Side of the windows in tokens.
        vocab: Number of codes; 0 for vectors, whose bottleneck is a normal distribution (VAE).
        channels: Channels of a code or vector.
        scale: Vectors are (latents - shift) * scale; one over the standard deviation of the training set's latents.
        shift: Mean of the training set's latents.
        rotary: Rotate queries and keys by their place in the frame.
        causal_attention: Attention over time sees no later frame.
        causal_convolution: The convolutions see no later frame.
        viewed: The convolutions of blocks over time read the memory of (places, frames) as if it were (frames, places):
            released weights depend on this slip. It mixes frames, so a clip's first tokens depend on its last frames.
        raw_keys: Keys and values are computed from the input before its norm, queries from the one after it.
        biased: Add the bias of distances over time, and that of offsets over space if not `rotary`. The published code
            computes and forgets them where torch has fused attention (2.1); only `imagenet_only` was trained with them.
        normed_patches: Patches are normalized before they are embedded, which loses how bright and how rich in contrast
            each of them is. Photographs tell it by what lies around; drawings of flat color do not.
        unit_latents: Latents are put on the unit sphere before they are compared with the codes, and the codes are not.
    """

    image_size: int = 256
    frames: int = 17
    patch: int = 8
    time_patch: int = 4
    width: int = 512
    heads: int = 8
    head_width: int = 64
    hidden: int = 1365
    encoder_blocks: str = "ttww"
    decoder_blocks: str = "tttt"
    time_blocks: int = 4
    window: int = 8
    vocab: int = 8192
    channels: int = 8
    scale: float = 1.0
    shift: float = 0.0
    rotary: bool = True
    causal_attention: bool = True
    causal_convolution: bool = True
    viewed: bool = True
    raw_keys: bool = True
    biased: bool = False
    normed_patches: bool = True
    unit_latents: bool = True

    def __post_init__(self) -> None:
        sizes = ("image_size", "frames", "patch", "time_patch", "width", "heads", "head_width", "hidden")
        refuse_outside(
            self, "", dict.fromkeys((*sizes, "time_blocks", "window", "channels"), (1, float("inf")))
        )
        refuse_outside(self, "", {"vocab": (0, float("inf"))})
        for name in ("encoder_blocks", "decoder_blocks"):
            blocks = getattr(self, name)
            if not blocks or set(blocks) - {"t", "w"}:
                raise ArzooError(f"{name} must be letters t (whole frame) and w (windows), got {blocks!r}")
        if (self.frames - 1) % self.time_patch:
            raise ArzooError(
                f"clips have one frame and a multiple of time_patch={self.time_patch}, got frames={self.frames}"
            )
        windows = "w" in self.encoder_blocks + self.decoder_blocks
        unit = self.patch * (self.window if windows else 1)
        if self.image_size % unit:
            raise ArzooError(
                f"frames of side {self.image_size} do not divide into "
                f"{'windows' if windows else 'patches'} of side {unit}"
            )
        if windows and self.width % self.heads:
            raise ArzooError(f"a width must be a multiple of its heads, got {self.width} and {self.heads}")
        if self.rotary and self.head_width % 4:
            raise ArzooError(f"rotated heads need a width that is a multiple of 4, got {self.head_width}")
        if not self.scale > 0:
            raise ArzooError(f"the scale of latents must be positive, got {self.scale}")

    @property
    def causal(self) -> bool:
        """Whether no token depends on later frames."""
        return self.causal_attention and self.causal_convolution and not self.viewed

    def build(self) -> OmniTokenizer:
        """Build a tokenizer with newly initialized weights."""
        from arzoo.tokenizers.omnitok.tokenizer import OmniTokenizer

        return OmniTokenizer(self)


class SpaceBlock(nn.Module):
    """A block over the places of each frame."""

    def __init__(self, config: OmniTokenizerConfig, whole: bool) -> None:
        super().__init__()
        c = config
        self.convolution: ClipConvolution | None = None
        self.bias: OffsetBias | None = None
        self.attention: Attention | WindowAttention
        if whole:
            self.convolution = ClipConvolution(c.width, c.causal_convolution)
            self.attention = Attention(c.width, c.heads, c.head_width, c.raw_keys)
            self.bias = OffsetBias(c.width, c.heads) if c.biased and not c.rotary else None
        else:
            self.attention = WindowAttention(c.width, c.heads, c.window)
        self.feed = FeedForward(c.width, c.hidden)

    def forward(self, x_BthwD: Tensor, turns: Tensor | None) -> Tensor:
        """Transform the tokens of clips; `turns` rotate queries and keys, see `Attention`."""
        shape = x_BthwD.shape
        if self.convolution is not None:
            x_BthwD = x_BthwD + self.convolution(x_BthwD)
        x, grid = x_BthwD.reshape(-1, shape[2] * shape[3], shape[4]), (shape[2], shape[3])
        if isinstance(self.attention, WindowAttention):
            x = x + self.attention(x, grid)
        else:
            bias = None if self.bias is None else self.bias(grid)
            x = x + self.attention(x, False, turns, bias)
        return (x + self.feed(x)).view(shape)


class TimeBlock(nn.Module):
    """A block over the frames at each place."""

    def __init__(self, config: OmniTokenizerConfig) -> None:
        super().__init__()
        c = self.config = config
        self.convolution = ClipConvolution(c.width, c.causal_convolution)
        self.attention = Attention(c.width, c.heads, c.head_width, c.raw_keys)
        self.feed = FeedForward(c.width, c.hidden)

    def forward(self, x_RtD: Tensor, clip: tuple[int, int, int]) -> Tensor:
        """Transform the tokens of all places of clips of (t, h, w) tokens."""
        x_RtD = x_RtD + self._convolve(x_RtD.contiguous(), clip)
        bias = distance_bias(self.config.heads, clip[0]).to(x_RtD) if self.config.biased else None
        x_RtD = x_RtD + self.attention(x_RtD, self.config.causal_attention, None, bias)
        return x_RtD + self.feed(x_RtD)

    def _convolve(self, x_RtD: Tensor, clip: tuple[int, int, int]) -> Tensor:
        t, h, w = clip
        if self.config.viewed:
            return self.convolution(x_RtD.view(-1, t, h, w, x_RtD.shape[-1])).reshape(x_RtD.shape)
        frames = x_RtD.unflatten(0, (-1, h, w)).movedim(3, 1)
        return self.convolution(frames).movedim(1, 3).reshape(x_RtD.shape)


class Space(nn.Module):
    """The transformer over space.

    Args:
        config: Sizes.
        kinds: A letter for each block, see `OmniTokenizerConfig`.
    """

    def __init__(self, config: OmniTokenizerConfig, kinds: str) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(SpaceBlock(config, kind == "t") for kind in kinds)
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.windowed = "w" in kinds

    def forward(self, x_BthwD: Tensor) -> Tensor:
        """Transform the tokens of clips.

        Raises:
            ArzooError: There are windows, and they do not tile a frame.
        """
        grid = (x_BthwD.shape[2], x_BthwD.shape[3])
        if self.windowed and any(n % self.config.window for n in grid):
            unit = self.config.window * self.config.patch
            raise ArzooError(
                f"frames of {grid[0]} x {grid[1]} tokens do not divide into windows of side {self.config.window}: this "
                f"tokenizer needs sides that are multiples of {unit} pixels, such as "
                f"{self.config.image_size} x {self.config.image_size}. Resize or crop them."
            )
        turns = None
        if self.config.rotary:
            turns = frame_turns(grid, self.config.head_width).to(x_BthwD.device)[None, :, None]
        for block in self.blocks:
            x_BthwD = block(x_BthwD, turns)
        return self.norm(x_BthwD)


class Time(nn.Module):
    """The transformer over time."""

    def __init__(self, config: OmniTokenizerConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(TimeBlock(config) for _ in range(config.time_blocks))
        self.norm = nn.LayerNorm(config.width, bias=False)

    def forward(self, x_BthwD: Tensor) -> Tensor:
        """Transform the tokens of clips."""
        t, h, w = x_BthwD.shape[1:4]
        x = x_BthwD.movedim(1, 3).flatten(0, 2)
        for block in self.blocks:
            x = block(x, (t, h, w))
        return self.norm(x).unflatten(0, (-1, h, w)).movedim(3, 1)


class Encoder(nn.Module):
    """Map clips to latents."""

    def __init__(self, config: OmniTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.first, self.rest = (_embedding(numbers, config) for numbers in _patch_numbers(config))
        self.space, self.time = Space(config, config.encoder_blocks), Time(config)

    def repeated_blocks(self) -> list[nn.Module]:
        """Blocks over space and over time."""
        return [*self.space.blocks, *self.time.blocks]

    def forward(self, x: Tensor) -> Tensor:
        """Encode clips (B, 3, T, H, W) in [-0.5, 0.5] as (B, t, h, w, D)."""
        c = self.config
        tokens = self.first(to_patches(x[:, :, :1], 1, c.patch))
        if x.shape[2] > 1:
            tokens = torch.cat([tokens, self.rest(to_patches(x[:, :, 1:], c.time_patch, c.patch))], 1)
        return self.time(self.space(tokens))


class Decoder(nn.Module):
    """Map latents to clips."""

    def __init__(self, config: OmniTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.time, self.space = Time(config), Space(config, config.decoder_blocks)
        self.first, self.rest = (nn.Linear(config.width, numbers) for numbers in _patch_numbers(config))

    @property
    def last_layer(self) -> Tensor:
        """Weight of the layer that makes the first frame, at which the adaptive weight of adversaries is computed."""
        return self.first.weight

    def repeated_blocks(self) -> list[nn.Module]:
        """Blocks over time and over space."""
        return [*self.time.blocks, *self.space.blocks]

    def forward(self, z_BthwD: Tensor) -> Tensor:
        """Decode to clips (B, 3, T, H, W) in about [-0.5, 0.5]."""
        c, tokens = self.config, self.space(self.time(z_BthwD))
        first = from_patches(self.first(tokens[:, :1]), 1, c.patch)
        if tokens.shape[1] == 1:
            return first
        return torch.cat([first, from_patches(self.rest(tokens[:, 1:]), c.time_patch, c.patch)], 2)


def _patch_numbers(config: OmniTokenizerConfig) -> tuple[int, int]:
    """Pixel values of a patch of the first frame, and of the later ones."""
    first = 3 * config.patch**2
    return first, first * config.time_patch


def _embedding(numbers: int, config: OmniTokenizerConfig) -> nn.Sequential:
    norm = nn.LayerNorm(numbers) if config.normed_patches else nn.Identity()
    return nn.Sequential(norm, nn.Linear(numbers, config.width), nn.LayerNorm(config.width))


def to_patches(x: Tensor, frames: int, side: int) -> Tensor:
    """Cut clips (B, C, T, H, W) into patches (B, t, h, w, C * frames * side * side)."""
    x = x.unflatten(4, (-1, side)).unflatten(3, (-1, side)).unflatten(2, (-1, frames))
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)


def from_patches(patches: Tensor, frames: int, side: int) -> Tensor:
    """Join patches to clips, the inverse of `to_patches`."""
    x = patches.unflatten(4, (-1, frames, side, side)).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return x.flatten(6).flatten(4, 5).flatten(2, 3)
