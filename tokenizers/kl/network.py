"""KL tokenizers on a grid, with continuous tokens: the KL-16 of MAR, Hi-MAR and xAR, and small ones.

"High-Resolution Image Synthesis with Latent Diffusion Models", 2022, section 3.1, in the sizes of "Autoregressive Image
Generation without Vector Quantization", 2024, section 4.1.

The network is `common.convolutional`, as in VQ tokenizers, and not diffusers' `AutoencoderKL`. The latter has the same
arithmetic for KL-16 (`tests/parity/test_kl_vae.py`), but no patch stem, no decoder of other widths or depth than the
encoder, and no group norm for widths like 48, so small models would need a second network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.clips import unfold_frames
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens
from arzoo.tokenizers.common.convolutional import Attention, Decoder, Encoder
from arzoo.tokenizers.common.grid import GridTokenizer, GridTokenizerConfig
from arzoo.tokenizers.kl.posterior import Posterior, standardizing


@dataclass(frozen=True, kw_only=True)
class KLTokenizerConfig(GridTokenizerConfig):
    """Sizes of a `KLTokenizer`, in addition to those of `GridTokenizerConfig`. The defaults are those of KL-16.

    Attributes:
        channels: Channels of a token.
        encoder_attention: Where the encoder attends.
        decoder_attention: Where the decoder attends.
        scale: Tokens are (latents - shift) * scale; one over the standard deviation of the training set's latents.
        shift: Mean of the training set's latents; 0 in published models.
    """

    channels: int = 16
    encoder_attention: Attention = "deepest"
    decoder_attention: Attention = "middle"
    scale: float = 0.2325
    shift: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scale > 0:
            raise ArzooError(f"the scale of latents must be positive, got {self.scale}")

    def build(self) -> KLTokenizer:
        """Build a tokenizer with newly initialized weights."""
        return KLTokenizer(self)


class KLTokenizer(GridTokenizer):
    """Tokenizer of pictures as a grid of vectors; F counts the frames of all clips."""

    config: KLTokenizerConfig

    def __init__(self, config: KLTokenizerConfig) -> None:
        super().__init__(config, channels=config.channels)
        c = config
        self.encoder = Encoder(c.widths, c.encoder_blocks, 2 * c.channels, c.encoder_attention, c.unshuffle)
        self.decoder = Decoder(
            c.decoder_widths or c.widths, c.decoder_blocks, c.channels, c.decoder_attention, c.unshuffle
        )
        self.to_moments = nn.Conv2d(2 * c.channels, 2 * c.channels, 1)
        self.from_latents = nn.Conv2d(c.channels, c.channels, 1)

    def moments(self, frames: Tensor) -> Tensor:
        """Means and log-variances (F, 2C, h, w) of the latents of frames (F, 3, H, W) in [-1, 1]."""
        return self.to_moments(self.encoder(frames))

    def posterior(self, frames: Tensor) -> Posterior:
        """Distribution of the latents (F, C, h, w), before shift and scale."""
        return Posterior.of(self.moments(frames))

    def forward(self, x: Tensor) -> tuple[Tensor, Posterior]:
        """Reconstruct clips: (B, 3, T, H, W), and the posterior of all their frames.

        In training mode a sample of the posterior is decoded, otherwise its mean.
        """
        posterior = self.posterior(self.frames_of(x))
        z = posterior.sample(torch.randn_like(posterior.mean)) if self.training else posterior.mean
        return unfold_frames(self.decode_latents(z), len(x)), posterior

    def encode(self, x: Tensor, draws: Draws | None = None) -> Tokens:
        """Encode clips as tokens (B, T * h * w, C).

        Args:
            x: Clips (B, 3, T, H, W) in [-1, 1].
            draws: Randomness for sampling the posterior, one seed per clip; without it the tokens are its mean.
        """
        posterior = self.posterior(self.frames_of(x))
        if draws is None:
            return self.tokens(self.scaled(posterior.mean), x)
        shape = posterior.mean.shape
        noise = draws.normal((len(x), len(posterior.mean) // len(x), *shape[1:])).view(shape)
        return self.tokens(self.scaled(posterior.sample(noise.to(posterior.mean.device))), x)

    def distribution(self, x: Tensor) -> tuple[Tokens, Tensor]:
        """Mean and standard deviation of the tokens, each (B, T * h * w, C)."""
        posterior = self.posterior(self.frames_of(x))
        spread = self.on_grid(_flat(posterior.std) * self.config.scale, x)
        return self.tokens(self.scaled(posterior.mean), x), spread

    def scaled(self, z: Tensor) -> Tensor:
        """Shift and scale latents (F, C, h, w) to tokens (F, h * w, C)."""
        return (_flat(z) - self.config.shift) * self.config.scale

    def latents(self, values: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map tokens (F, h * w, C) to latents (F, C, h, w), the inverse of `scaled`."""
        return (values / self.config.scale + self.config.shift).transpose(1, 2).unflatten(2, grid)

    def decode_latents(self, z: Tensor) -> Tensor:
        """Decode latents (F, C, h, w) to frames (F, 3, H, W)."""
        return self.decoder(self.from_latents(z.to(self.from_latents.weight.dtype)))

    def decode(self, tokens: Tokens) -> Tensor:
        """Decode tokens to clips (B, 3, T, H, W); the last bits may depend on the batch size."""
        return unfold_frames(self.decode_latents(self.latents(*self.by_frame(tokens))), len(tokens.values))

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Set shift and scale so that sampled tokens of these clips have mean 0 and standard deviation 1."""
        shift, scale = standardizing(self.posterior(self.frames_of(x)) for x in batches)
        self.config = self.config.replace(shift=shift, scale=scale)


def _flat(z: Tensor) -> Tensor:
    """(F, C, h, w) -> (F, h * w, C)."""
    return z.flatten(2).transpose(1, 2)
