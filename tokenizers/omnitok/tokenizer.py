"""The tokenizer of OmniTokenizer: clips to codes or vectors on a grid of time, rows and columns.

Shapes: B clips of T frames of H x W pixels, t x h x w tokens, N = t h w, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from arzoo.core.contracts import Tokenizer
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.tokenizers.common.grid import grid_of
from arzoo.tokenizers.kl.posterior import Posterior, standardizing
from arzoo.tokenizers.omnitok.network import Decoder, Encoder, OmniTokenizerConfig
from arzoo.tokenizers.quantizers.vq import NearestCodes, VectorQuantizer

HALF = 0.5
"""Largest absolute value of pixels that the networks are made for; clips have 1."""


class OmniTokenizer(Tokenizer):
    """Tokenizer of clips and pictures; other sizes and numbers of frames than its own work where patches fit.

    Args:
        config: Sizes.
    """

    config: OmniTokenizerConfig

    def __init__(self, config: OmniTokenizerConfig) -> None:
        super().__init__()
        c = self.config = config
        self.image_size, self.frames = (c.image_size, c.image_size), c.frames
        self.strictly_causal = c.causal
        side, kind = c.image_size // c.patch, {"vocab": c.vocab} if c.vocab else {"channels": c.channels}
        self.spec = TokenSpec(
            Grid(1 + (c.frames - 1) // c.time_patch, side, side),
            downscale=(c.time_patch, c.patch, c.patch), first_alone=True, **kind,
        )  # fmt: skip
        self.encoder, self.decoder = Encoder(c), Decoder(c)
        self.to_latents = nn.Linear(c.width, c.channels if c.vocab else 2 * c.channels)
        self.from_latents = nn.Linear(c.channels, c.width)
        self.quantizer = (
            VectorQuantizer(c.vocab, c.channels, unit=c.unit_latents, unit_codes=False) if c.vocab else None
        )

    def latents(self, x: Tensor) -> Tensor:
        """Vectors before quantization, or means and log-variances, (B, t, h, w, C or 2C), of clips in [-1, 1].

        Raises:
            ArzooError: See `Tokenizer.encode`.
        """
        grid_of(x, self.spec)
        return self.to_latents(self.encoder((x * HALF).to(self.to_latents.weight.dtype)))

    def posterior(self, x: Tensor) -> Posterior:
        """Distribution of the latents (B, C, N, 1) of clips, before shift and scale."""
        return Posterior.of(self.latents(x).flatten(1, 3).transpose(1, 2)[..., None])

    def decode_latents(self, z: Tensor) -> Tensor:
        """Decode quantized or sampled latents (B, t, h, w, C) to clips (B, 3, T, H, W)."""
        return self.decoder(self.from_latents(z.to(self.from_latents.weight.dtype))) / HALF

    def forward(self, x: Tensor) -> tuple[Tensor, NearestCodes | Posterior]:
        """Reconstruct clips: (B, 3, T, H, W), and the quantization or the posterior of all their latents.

        In training mode a sample of the posterior is decoded, otherwise its mean.
        """
        if self.quantizer is not None:
            quantized = self.quantizer(self.latents(x))
            return self.decode_latents(quantized.vectors), quantized
        posterior = self.posterior(x)
        z = posterior.sample(torch.randn_like(posterior.mean)) if self.training else posterior.mean
        return self.decode_latents(by_token(z).unflatten(1, grid_of(x, self.spec).shape)), posterior

    def encode(self, x: Tensor, draws: Draws | None = None) -> Tokens:
        """Encode clips as codes (B, N) or vectors (B, N, C).

        Args:
            x: Clips (B, 3, T, H, W) in [-1, 1].
            draws: Randomness for sampling vectors, one seed per clip; without it they are the mean.

        Raises:
            ArzooError: The clips have another number of channels, sizes that the patches do not divide, or frames that
                the windows do not.
        """
        if self.quantizer is not None:
            values = self.quantizer(self.latents(x)).codes.flatten(1)
        else:
            posterior = self.posterior(x)
            z = posterior.mean
            if draws is not None:
                z = posterior.sample(draws.normal(z.shape).to(z.device))
            values = (by_token(z) - self.config.shift) * self.config.scale
        return Tokens.of(values, layout=grid_of(x, self.spec))

    def distribution(self, x: Tensor) -> tuple[Tokens, Tensor | None]:
        """Tokens; for vectors their mean, and standard deviation (B, N, C)."""
        if self.quantizer is not None:
            return self.encode(x), None
        return self.encode(x), by_token(self.posterior(x).std) * self.config.scale

    def decode(self, tokens: Tokens) -> Tensor:
        """Decode tokens to clips (B, 3, T, H, W) in about [-1, 1].

        Raises:
            ArzooError: They are not tokens of this tokenizer, or its windows do not divide their grid.
        """
        layout = self.spec.require(tokens)
        assert isinstance(layout, Grid)
        if self.quantizer is not None:
            z = self.quantizer.vectors_of(tokens)
        else:
            z = tokens.values / self.config.scale + self.config.shift
        return self.decode_latents(z.unflatten(1, layout.shape))

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Set shift and scale so that sampled vectors of these clips have mean 0 and standard deviation 1."""
        if self.quantizer is None:
            shift, scale = standardizing(map(self.posterior, batches))
            self.config = self.config.replace(shift=shift, scale=scale)


def by_token(z: Tensor) -> Tensor:
    """(B, C, N, 1), the shape of a `Posterior`, to (B, N, C)."""
    return z[..., 0].transpose(1, 2)
