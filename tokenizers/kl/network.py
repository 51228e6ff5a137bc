"""KL tokenizers on a grid: continuous tokens. KL-16 of MAR, Hi-MAR and xAR, and small ones.

"High-Resolution Image Synthesis with Latent Diffusion Models", 2022, section 3.1, in the sizes of "Autoregressive Image
Generation without Vector Quantization", 2024, section 4.1.

The network is `common.convolutional`, as of VQ tokenizers, and not diffusers' `AutoencoderKL`. Of KL-16 that
one has the same arithmetic (`tests/parity/test_kl_vae.py`), but no patch stem, no decoder of other widths or depth and
no group norm for widths like 48, so small models would need ours beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.draws import Draws
from arzoo.tokenizers.common.convolutional import Attention, Decoder, Encoder
from arzoo.tokenizers.common.grid import GridTokenizer, GridTokenizerConfig
from arzoo.tokenizers.kl.posterior import Posterior


@dataclass(frozen=True, kw_only=True)
class KLTokenizerConfig(GridTokenizerConfig):
    """Sizes of a `KLTokenizer`, beside those of every `GridTokenizer`. The defaults are those of KL-16.

    Attributes:
        channels: Numbers a token has.
        encoder_attention: Where the encoder attends.
        decoder_attention: Where the decoder attends.
        scale: Tokens are (latents - shift) * scale: one over the standard deviation of the training set's latents.
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
        """A tokenizer with fresh weights."""
        return KLTokenizer(self)


class KLTokenizer(GridTokenizer):
    """Pictures to a grid of vectors."""

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

    def moments(self, x: Tensor) -> Tensor:
        """Means and logarithms of variances (B, 2C, h, w) for pictures (B, 3, H, W). Errors as of `features`."""
        return self.to_moments(self.features(x))

    def posterior(self, x: Tensor) -> Posterior:
        """Distribution of the latents (B, C, h, w), before shift and scale."""
        return Posterior.of(self.moments(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Posterior]:
        """Reconstruction (B, 3, H, W) and the posterior behind it: of a sample in training mode, else of the mean."""
        posterior = self.posterior(x)
        z = posterior.sample(torch.randn_like(posterior.mean)) if self.training else posterior.mean
        return self.decode_latents(z), posterior

    def encode(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """Tokens (B, h * w, C).

        Args:
            x: Pictures (B, 3, H, W) in [-1, 1].
            draws: Randomness of a sample of the posterior; without it, tokens are the mean.
        """
        posterior = self.posterior(x)
        if draws is None:
            return self.tokens(posterior.mean)
        return self.tokens(posterior.sample(draws.normal(posterior.mean.shape).to(posterior.mean.device)))

    def distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the tokens, each (B, h * w, C)."""
        posterior = self.posterior(x)
        return self.tokens(posterior.mean), _flat(posterior.std) * self.config.scale

    def tokens(self, z: Tensor) -> Tensor:
        """Tokens (B, h * w, C) of latents (B, C, h, w)."""
        return (_flat(z) - self.config.shift) * self.config.scale

    def latents(self, values: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Latents (B, C, h, w) of tokens, the inverse of `tokens`; arguments and errors as of `decode`."""
        z = values / self.config.scale + self.config.shift
        return z.transpose(1, 2).unflatten(2, self.places(values, grid))

    def decode_latents(self, z: Tensor) -> Tensor:
        """Pictures of latents (B, C, h, w)."""
        return self.decoder(self.from_latents(z.to(self.from_latents.weight.dtype)))

    def decode(self, values: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Pictures of tokens (B, h * w, C); the last bits may depend on the batch.

        Args:
            values: Tokens in raster order.
            grid: (h, w) of pictures that are not of the tokenizer's own size.

        Raises:
            ArzooError: There are not as many tokens as places, or they have another number of channels.
        """
        return self.decode_latents(self.latents(values, grid))

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Measure shift and scale, so that sampled tokens of these pictures have mean 0 and standard deviation 1."""
        count, total, squares = 0, 0.0, 0.0
        for x in batches:
            posterior = self.posterior(x)
            second = posterior.mean.double().square() + posterior.std.double().square()
            count += second.numel()
            total, squares = total + float(posterior.mean.double().sum()), squares + float(second.sum())
        shift = total / count
        self.config = self.config.replace(shift=shift, scale=(squares / count - shift**2) ** -0.5)


def _flat(z: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return z.flatten(2).transpose(1, 2)
