"""KARL's networks: an encoder that keeps or halts latent slots, and a decoder of the kept slots.

"Single-pass Adaptive Image Tokenization for Minimum Program Search", 2025, section 3, in the arithmetic of the
published code.

Shapes: B pictures, G grid positions, T latent slots, E channels of the base latents, Z channels of a token, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from arzoo.base.config import Config, refuse_outside
from arzoo.base.errors import ArzooError
from arzoo.tokenizers.common.transformer import Block, StackConfig, table, transform
from arzoo.tokenizers.kl.network import KLTokenizerConfig
from arzoo.tokenizers.vq.maskgit import MaskGITConfig

if TYPE_CHECKING:
    from arzoo.tokenizers.karl.tokenizer import Karl

BINS = (
    0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.09, 0.10, 0.12, 0.14, 0.16, 0.18, 0.20, 0.24, 0.28, 0.32, 0.38,
)  # fmt: skip
"""Mean absolute errors, of pixels in [0, 1], that the encoder accepts as targets."""

HALTED_ABOVE = 0.75
"""A slot whose probability of halting is above this is dropped."""


@dataclass(frozen=True, kw_only=True)
class KarlConfig(Config):
    """Sizes of a `Karl`.

    Attributes:
        image_size: Side of the square pictures.
        base: Autoencoder whose grid of latents is distilled.
        encoder: Stack of the encoder.
        decoder: Stack of the decoder.
        slots: Latent slots per picture.
        table_slots: Rows of the tables of slots, the largest number of slots.
        table_side: Side of the tables of grid positions, of which every n-th entry is used.
        channels: Channels Z of a token.
        vocab: Number of codes; with 0 tokens are continuous.
        quality: Default target of the mean absolute error.
        coarsest: Largest target that encoding accepts: beyond the errors that training met, a bin means nothing.
        halting_width: Hidden width of the layers that give the logits of halting.
        exact_base: Use a KL base as it was trained: pictures in [-1, 1], latents shifted and scaled, and both undone in
            decoding. Published tokenizers give it pictures in [0, 1] and decode scaled latents as they are.
        initial_deviation: Standard deviation of the initial weights; the published one suits a width of 1024.
    """

    image_size: int = 256
    base: MaskGITConfig | KLTokenizerConfig = field(default_factory=MaskGITConfig)
    encoder: StackConfig = field(default_factory=lambda: StackConfig(width=1024))
    decoder: StackConfig = field(default_factory=lambda: StackConfig(width=1024))
    slots: int = 256
    table_slots: int = 512
    table_side: int = 64
    channels: int = 12
    vocab: int = 4096
    quality: float = 0.05
    coarsest: float = BINS[-1]
    halting_width: int = 512
    exact_base: bool = False
    initial_deviation: float = 0.02

    def __post_init__(self) -> None:
        least = {"table_slots": 1, "table_side": 1, "channels": 1, "vocab": 0}
        limits = {name: (low, math.inf) for name, low in least.items()}
        refuse_outside(self, "", {**limits, "coarsest": (BINS[0], BINS[-1]), "quality": (0, self.coarsest)})
        if self.image_size % self.base.factor or self.table_side % self.grid:
            raise ArzooError(
                f"the side of the grid must be a whole number that divides table_side={self.table_side}, got "
                f"image_size / {self.base.factor} = {self.image_size / self.base.factor:g}"
            )
        if self.exact_base and isinstance(self.base, MaskGITConfig):
            raise ArzooError(
                "exact_base is for a KL base; MAGE's VQGAN takes pictures in [0, 1]: leave exact_base out"
            )
        if not 1 <= self.slots <= self.table_slots:
            raise ArzooError(f"slots must be from 1 to table_slots={self.table_slots}, got {self.slots}")
        if self.encoder.width <= self.base.channels:
            raise ArzooError(
                f"the encoder must be wider than the {self.base.channels} channels of the base latents, got width "
                f"{self.encoder.width}"
            )

    def build(self) -> Karl:
        """Build a tokenizer with newly initialized weights."""
        from arzoo.tokenizers.karl.tokenizer import Karl

        return Karl(self)

    @property
    def grid(self) -> int:
        """Side of the grid of base latents."""
        return self.image_size // self.base.factor

    @property
    def outputs(self) -> int:
        """Outputs of the decoder per grid position: logits of base codes, or channels of base latents."""
        return self.base.vocab if isinstance(self.base, MaskGITConfig) else self.base.channels


def quality_bin(errors: Tensor) -> Tensor:
    """Index (B,) of the smallest bin that is at least the error; the last one above all bins. Compared in float32."""
    bins = torch.tensor(BINS, dtype=torch.float32, device=errors.device)
    return torch.searchsorted(bins, errors.float().contiguous()).clamp(max=len(BINS) - 1)


class KarlEncoder(nn.Module):
    """Map pictures and base latents to the tokens of slots and their logits of halting."""

    def __init__(self, config: KarlConfig) -> None:
        super().__init__()
        stack, base = config.encoder, config.base
        width, self.stride = stack.width, config.table_side // config.grid
        self.patches = nn.Conv2d(3, width - base.channels, base.factor, base.factor)
        self.positions = table(width, width, config.table_side, config.table_side)
        self.slots = table(width, config.table_slots, width)
        # Every row starts constant, and the first norm maps it to zero: the meaning of a bin is learned.
        self.qualities = nn.Parameter(torch.tensor(BINS)[:, None].repeat(1, width))
        self.norm_in, self.norm_out, self.norm_halt = (nn.LayerNorm(width) for _ in range(3))
        self.blocks = nn.ModuleList(Block(width, stack.heads) for _ in range(stack.depth))
        self.halt1, self.halt2 = nn.Linear(width, config.halting_width), nn.Linear(config.halting_width, 1)
        self.output = nn.Linear(width, config.channels)

    def repeated_blocks(self) -> list[nn.Module]:
        """See `arzoo.core.contracts.Repeats`."""
        return list(self.blocks)

    def forward(self, x: Tensor, latents: Tensor, bins: Tensor, slots: int) -> tuple[Tensor, Tensor]:
        """Encode pictures.

        Args:
            x: (B, 3, H, W) in [0, 1].
            latents: (B, E, h, w) from the encoder of the base.
            bins: (B,) target errors as results of `quality_bin`.
            slots: T.

        Returns:
            Tokens (B, T, Z) before the quantizer, and logits (B, T) of halting.
        """
        grid = torch.cat([self.patches(x), latents], 1)
        grid = grid + self.positions[:, :: self.stride, :: self.stride]
        sequence = torch.cat(
            [
                self.qualities[bins][:, None],
                grid.flatten(2).transpose(1, 2),
                self.slots[:slots].expand(len(x), -1, -1),
            ],
            1,
        )
        h = transform(self.blocks, self.norm_in(sequence), slice(-slots, None))
        halting = self.halt2(torch.tanh(self.halt1(self.norm_halt(h))))[..., 0]
        return self.output(self.norm_out(h)), halting


class KarlDecoder(nn.Module):
    """Map tokens to base latents, or to logits of base codes."""

    def __init__(self, config: KarlConfig) -> None:
        super().__init__()
        stack = config.decoder
        width, self.stride = stack.width, config.table_side // config.grid
        scale = config.encoder.width
        self.input = nn.Linear(config.channels, width)
        self.slots = table(scale, config.table_slots, width)
        self.query = table(scale, 1, 1, width)
        self.positions = table(scale, width, config.table_side, config.table_side)
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, stack.heads) for _ in range(stack.depth))
        self.head1, self.head2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, config.outputs)

    def repeated_blocks(self) -> list[nn.Module]:
        """See `arzoo.core.contracts.Repeats`."""
        return list(self.blocks)

    def forward(
        self, tokens: Tensor, kept: Tensor, slots: Tensor | None = None, tiled: bool = False
    ) -> Tensor:
        """Decode tokens to (B, G, outputs).

        Only a halted token itself may attend to it, so it cannot influence the grid: dropping it gives the same result.

        Args:
            tokens: (B, T, Z).
            kept: (B, T) bool.
            slots: (B, T) indices of their slots; by default the first T.
            tiled: Repeat the mistake of the published training, which gives attention heads masks of other pictures.
        """
        x = self.input(tokens) + (self.slots[: tokens.shape[1]] if slots is None else self.slots[slots])
        grid = self.query + self.positions[:, :: self.stride, :: self.stride].flatten(1).T
        count = grid.shape[1]
        x = self.norm_in(torch.cat([grid.expand(len(x), -1, -1), x], 1))
        visible = torch.cat([kept.new_ones(len(kept), count), kept], 1)
        mask = self._tiled(visible) if tiled else None if bool(visible.all()) else visible[:, None, None]
        x = transform(self.blocks, x, slice(count), mask)
        return self.head2(torch.tanh(self.head1(self.norm_out(x))))

    def _tiled(self, visible: Tensor) -> Tensor:
        batch, heads = len(visible), self.blocks[0].heads
        itself = torch.eye(visible.shape[1], dtype=torch.bool, device=visible.device)
        masks = visible[:, :, None] & visible[:, None] | itself
        index = torch.arange(batch * heads, device=visible.device) % batch  # type: ignore[operator]
        return masks[index].unflatten(0, (batch, heads))  # type: ignore[arg-type]


@torch.no_grad()
def set_initial_weights(deviation: float, *modules: nn.Module) -> None:
    """Set the published initial weights: normal with a deviation, biases zero; `qkv` stays Xavier-uniform."""
    for module in modules:
        for name, part in module.named_modules():
            if isinstance(part, (nn.Linear, nn.Conv2d)):
                if not name.endswith("qkv"):
                    nn.init.trunc_normal_(part.weight, std=deviation)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
