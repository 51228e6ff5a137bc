"""FlexTok's networks: an encoder of registers and a flow decoder that draws latents from the first k of them.

"FlexTok: Resampling Images into 1D Token Sequences of Flexible Length", 2025, section 3, in the arithmetic of the
published code. Latents are those of a frozen KL autoencoder, or the pixels themselves in tiny models.

Shapes: B pictures, C channels, h x w latents, P patches, K registers, Z channels of a code, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.config import Config, refuse_outside
from arzoo.base.errors import ArzooError
from arzoo.models.common.initialise import xavier
from arzoo.tokenizers.common.transformer import transform
from arzoo.tokenizers.flextok.blocks import Block, TimedBlock, TimeEmbedding, norm
from arzoo.tokenizers.kl.network import KLTokenizerConfig

if TYPE_CHECKING:
    from arzoo.tokenizers.flextok.tokenizer import FlexTok

Lengths = Literal["uniform", "powers", "powers_above"]
"""Number of registers kept in training: 1 to N, a power of two, or 1 to N rounded up to a power of two."""


@dataclass(frozen=True, kw_only=True)
class StackConfig(Config):
    """A stack of blocks; attention heads are 64 wide in published models.

    Attributes:
        width: Channels D.
        depth: Blocks.
        heads: Attention heads; 0 means one per 64 channels.
    """

    width: int = 768
    depth: int = 12
    heads: int = 0

    def __post_init__(self) -> None:
        refuse_outside(self, "", {"width": (1, math.inf), "depth": (1, math.inf), "heads": (0, math.inf)})
        if self.width % 4 or self.width % self.head_count:
            raise ArzooError(
                f"a width must divide by 4 and by its heads, got {self.width} and {self.head_count}"
            )

    @property
    def head_count(self) -> int:
        """Attention heads."""
        return self.heads or max(1, self.width // 64)


@dataclass(frozen=True, kw_only=True)
class FlexTokConfig(Config):
    """Sizes of a `FlexTok`.

    Attributes:
        image_size: Side of the square pictures.
        base: Frozen autoencoder of the latents; None works on pixels.
        patch: Side of a patch in latents.
        encoder: Stack of the encoder.
        decoder: Stack of the flow decoder.
        registers: Number N of registers, which is the largest number of codes of a picture.
        levels: Levels of finite scalar quantization.
        longest_time: Largest time; the embedding of times scales it to 1000.
        lengths: Distribution of the number of registers kept in training.
        null_probability: Share of pictures drawn without registers in training, for guidance.
        steps: Steps of the flow in decoding.
        guidance: Scale of guidance in decoding; 1 is off.
        projected: Use projected guidance (APG) instead of plain guidance.
        align_after: Index of the decoder's block whose features training aligns, if `loss.align` has a weight.
    """

    image_size: int = 256
    base: KLTokenizerConfig | None = None
    patch: int = 2
    encoder: StackConfig = field(default_factory=StackConfig)
    decoder: StackConfig = field(default_factory=StackConfig)
    registers: int = 256
    levels: tuple[int, ...] = (8, 8, 8, 5, 5, 5)
    longest_time: float = 1.0
    lengths: Lengths = "powers"
    null_probability: float = 0.2
    steps: int = 20
    guidance: float = 7.5
    projected: bool = True
    align_after: int = 1

    def __post_init__(self) -> None:
        least = dict.fromkeys(("patch", "registers", "steps"), (1, math.inf))
        refuse_outside(self, "", {**least, "guidance": (0, math.inf), "null_probability": (0, 1)})
        if not 0 < self.longest_time < math.inf:
            raise ArzooError(f"longest_time must be positive, got {self.longest_time}")
        factor = self.patch * (self.base.factor if self.base else 1)
        if self.image_size % factor:
            raise ArzooError(
                f"pictures of side {self.image_size} do not divide into patches of {factor} pixels"
            )

    def build(self) -> FlexTok:
        """Build a tokenizer with newly initialized weights."""
        from arzoo.tokenizers.flextok.tokenizer import FlexTok

        return FlexTok(self)

    @property
    def channels(self) -> int:
        """Channels C of the latents."""
        return self.base.channels if self.base else 3

    @property
    def side(self) -> int:
        """Side of the latents."""
        return self.image_size // (self.base.factor if self.base else 1)

    @property
    def grid(self) -> int:
        """Number of patches along a side."""
        return self.side // self.patch


def kept_registers(lengths: Lengths, uniform_B: Tensor, count: int) -> Tensor:
    """How many of `count` registers pictures keep (B,), from uniform numbers in (0, 1)."""
    if lengths == "powers":
        powers = torch.tensor([1 << i for i in range(count.bit_length())], device=uniform_B.device)
        return powers[(uniform_B * len(powers)).long()]
    keep = 1 + (uniform_B * count).long().clamp(max=count - 1)
    return keep if lengths == "uniform" else (2 ** keep.double().log2().ceil()).long().clamp(max=count)


def sine_table(width: int, side: int) -> Tensor:
    """Position embeddings (1, D, side, side): sines and cosines of the row, then of the column."""
    index = torch.arange(side, dtype=torch.float64)
    frequency = 10000 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    waves = torch.cat([(index[:, None] * frequency).sin(), (index[:, None] * frequency).cos()], 1).T
    rows, columns = waves[:, :, None].expand(-1, -1, side), waves[:, None].expand(-1, side, -1)
    return torch.cat([rows, columns]).float()[None]


def patches_of(latents: Tensor, side: int) -> Tensor:
    """Cut latents (B, C, h, w) into patches (B, P, side * side * C), ordered row, column, channel."""
    cut = latents.unflatten(3, (-1, side)).unflatten(2, (-1, side))
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def latents_of(patches: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """Join patches to latents, the inverse of `patches_of`; `grid` is the number of rows and columns of patches."""
    cut = patches.unflatten(2, (side, side, -1)).unflatten(1, grid)
    return cut.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


class RegisterEncoder(nn.Module):
    """Map latents to registers: patches attend to all patches, a register to patches and registers up to itself."""

    positions: Tensor

    def __init__(self, config: FlexTokConfig) -> None:
        super().__init__()
        stack, self.patch = config.encoder, config.patch
        width = stack.width
        self.input = nn.Linear(config.channels * config.patch**2, width)
        self.register_buffer("positions", sine_table(width, config.grid))
        self.registers = nn.Parameter(0.02 * torch.randn(config.registers, width))
        self.blocks = nn.ModuleList(Block(width, stack.head_count) for _ in range(stack.depth))
        self.output = nn.Linear(width, len(config.levels))

    def repeated_blocks(self) -> list[nn.Module]:
        """See `arzoo.core.contracts.Repeats`."""
        return list(self.blocks)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, K, Z), before the quantizer."""
        h, w = (n // self.patch for n in latents.shape[2:])
        x = self.input(patches_of(latents.to(self.input.weight.dtype), self.patch))
        x = x + self.positions[:, :, :h, :w].flatten(2).transpose(1, 2).to(x.dtype)
        patches, count = x.shape[1], len(self.registers)
        x = torch.cat([x, self.registers.to(x.dtype).expand(len(x), -1, -1)], 1)
        mask = torch.ones(patches + count, patches + count, dtype=torch.bool, device=x.device).tril()
        mask[:patches] = False
        mask[:, :patches] = True
        return self.output(norm(transform(self.blocks, x, slice(patches, None), mask[None, None])))


class FlowDecoder(nn.Module):
    """Predict the velocity of noisy latents, given registers and a time."""

    positions: Tensor

    def __init__(self, config: FlexTokConfig) -> None:
        super().__init__()
        stack, self.patch = config.decoder, config.patch
        width, values = stack.width, config.channels * config.patch**2
        self.from_codes = nn.Linear(len(config.levels), width)
        self.places = nn.Parameter(0.02 * torch.randn(1, 1, width, config.registers))
        self.absent = nn.Parameter(0.02 * torch.randn(width))
        self.null = nn.Parameter(0.02 * torch.randn(width))
        self.input = nn.Linear(values, width)
        self.register_buffer("positions", sine_table(width, config.grid))
        self.time = TimeEmbedding(width, config.longest_time)
        self.blocks = nn.ModuleList(TimedBlock(width, stack.head_count) for _ in range(stack.depth))
        self.final = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, values)

    def repeated_blocks(self) -> list[nn.Module]:
        """See `arzoo.core.contracts.Repeats`."""
        return list(self.blocks)

    def embed(self, vectors_BKZ: Tensor, keep_B: Tensor) -> Tensor:
        """Embed quantized vectors as registers (B, K, D).

        Args:
            vectors_BKZ: Quantized vectors.
            keep_B: Number of leading vectors of each picture to use; 0 is the null condition of guidance.
        """
        x = self.from_codes(vectors_BKZ.to(self.from_codes.weight.dtype))
        x = x + self.places[0, 0].T[: x.shape[1]]
        index = torch.arange(x.shape[1], device=x.device)
        x = torch.where((index < keep_B[:, None])[..., None], x, self.absent.to(x.dtype))
        return torch.where((keep_B == 0)[:, None, None], self.null.to(x.dtype), x)

    def forward(
        self, x_t: Tensor, t: Tensor, registers_BKD: Tensor, features_after: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Predict velocity (B, C, h, w), which is noise minus data.

        Args:
            x_t: Noisy latents (B, C, h, w).
            t: (1 or B,) times from 0 (data) to 1 (noise).
            registers_BKD: Result of `embed`.
            features_after: Index of a block whose output features are also returned.

        Returns:
            The velocity, and features (B, P, D) of the patches, or None without `features_after`.
        """
        h, w = (n // self.patch for n in x_t.shape[2:])
        x = self.input(patches_of(x_t.to(self.input.weight.dtype), self.patch))
        x = x + self.positions[:, :, :h, :w].flatten(2).transpose(1, 2).to(x.dtype)
        streams, features = [x, registers_BKD.to(x.dtype)], None
        time, last = F.silu(self.time(t)), len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            streams = block(
                streams, time, 2 if number < last else 1
            )  # nothing reads the registers after the last
            if number == features_after:
                features = streams[0]
        shift, scale = self.final(time)[:, None].chunk(2, -1)
        y = self.output(torch.addcmul(shift, norm(streams[0]), 1 + scale))
        return latents_of(y, self.patch, (h, w)), features


def set_initial_weights(encoder: RegisterEncoder, decoder: FlowDecoder) -> None:
    """Set the published initial weights: Xavier-uniform matrices, zero outputs and modulations."""
    xavier(encoder, decoder)
    for zero in (decoder.output, decoder.final, *(block.modulation for block in decoder.blocks)):
        nn.init.zeros_(zero.weight)  # type: ignore[arg-type]
