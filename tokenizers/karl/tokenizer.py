"""The KARL tokenizer: pictures to as many tokens as a target error needs, and back.

Shapes: B pictures, G grid positions, h x w of them, T latent slots, E channels of the base latents, Z of a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.clips import as_clips
from arzoo.core.contracts import Tokenizer
from arzoo.core.draws import Draws
from arzoo.core.layout import Ordered
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.tokenizers.common.lengths import target_errors
from arzoo.tokenizers.common.still_pictures import pictures_of, to_unit
from arzoo.tokenizers.karl.network import (
    HALTED_ABOVE,
    KarlConfig,
    KarlDecoder,
    KarlEncoder,
    quality_bin,
    set_initial_weights,
)
from arzoo.tokenizers.kl.network import KLTokenizer
from arzoo.tokenizers.quantizers.vq import NearestCodes, VectorQuantizer
from arzoo.tokenizers.vq.maskgit import MaskGITAutoencoder, MaskGITConfig


@dataclass
class Reading:
    """Result of encoding pictures.

    Attributes:
        vectors: (B, T, Z) tokens, quantized where the tokenizer has codes.
        halting: (B, T) logits of halting.
        quantized: The quantization, None for continuous tokens.
    """

    vectors: Tensor
    halting: Tensor
    quantized: NearestCodes | None

    @property
    def kept(self) -> Tensor:
        """(B, T) bool, slots that are tokens of the picture; not a prefix in general."""
        return self.halting.sigmoid() <= HALTED_ABOVE


class Karl(Tokenizer):
    """Tokenizer of pictures as the kept ones of T slots.

    Args:
        config: Sizes.
    """

    config: KarlConfig

    def __init__(self, config: KarlConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = (config.image_size, config.image_size)
        self.qualities = (0.0, config.coarsest)
        kind = {"vocab": config.vocab} if config.vocab else {"channels": config.channels}
        self.spec = TokenSpec(Ordered(config.slots), prefix_ok=True, subset_ok=True, **kind)
        base = config.base
        self.base = MaskGITAutoencoder(base) if isinstance(base, MaskGITConfig) else KLTokenizer(base)
        self.encoder, self.decoder = KarlEncoder(config), KarlDecoder(config)
        set_initial_weights(config.initial_deviation, self.encoder, self.decoder)
        self.quantizer = VectorQuantizer(config.vocab, config.channels) if config.vocab else None

    def encode(self, x: Tensor, quality: float | Tensor | None = None, draws: Draws | None = None) -> Tokens:
        """Encode pictures (B, 3, 1, H, W) in [-1, 1] in one pass.

        Halted slots are not `known`; tokens after the last kept slot are padding.

        Args:
            x: Pictures.
            quality: Acceptable mean absolute error of pixels in [0, 1], one number or (B,); by default the config's.
            draws: Randomness for sampling the latents of a KL base; without it they are the mean.

        Raises:
            ArzooError: They are not still pictures of the tokenizer's size, or a quality is out of range.
        """
        pictures = to_unit(pictures_of(x, self.image_size))
        quality = self.config.quality if quality is None else quality
        target = target_errors(quality, self.qualities, len(pictures))
        noise = None if draws is None else self.noise(draws).to(pictures.device)
        reading = self.read(pictures, self.base_latents(pictures, noise), target)
        values = reading.vectors if reading.quantized is None else reading.quantized.codes
        tokens = Tokens.of(values, reading.kept, self.spec.layout)
        counts = torch.arange(1, values.shape[1] + 1, device=values.device)
        tokens.length = (counts * reading.kept).amax(1)
        return tokens

    def decode(self, tokens: Tokens) -> Tensor:
        """Decode the known tokens before `Tokens.length`, of which there may be none.

        Returns:
            Pictures (B, 3, 1, H, W) in about [-1, 1].

        Raises:
            ArzooError: They are not tokens of this tokenizer.
        """
        self.spec.require(tokens)
        vectors = tokens.values if self.quantizer is None else self.quantizer.lookup(tokens.values)
        return as_clips(self.pictures(self.rebuild(vectors, tokens.present)) * 2 - 1)

    def base_latents(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Encode pictures (B, 3, H, W) in [0, 1] with the base autoencoder: latents (B, E, h, w).

        Args:
            x: Pictures.
            noise: (B, E, h, w) for sampling the posterior of a KL base; without it the latents are its mean.
        """
        if isinstance(self.base, MaskGITAutoencoder):
            return self.base.encoder(x)
        exact, base = self.config.exact_base, self.base.config
        posterior = self.base.posterior(2 * x - 1 if exact else x)
        z = posterior.mean if noise is None else posterior.sample(noise)
        return base.scale * (z - base.shift if exact else z)

    def read(self, x: Tensor, latents: Tensor, quality: Tensor, slots: int | None = None) -> Reading:
        """Encode in one pass.

        Args:
            x: (B, 3, H, W) in [0, 1].
            latents: Result of `base_latents`.
            quality: (B,) acceptable mean absolute errors.
            slots: T; by default that of the config.

        Raises:
            ArzooError: `slots` is outside 1 to `table_slots`.
        """
        count = slots or self.config.slots
        if not 1 <= count <= self.config.table_slots:
            raise ArzooError(f"slots must be from 1 to {self.config.table_slots}, got {count}")
        z, halting = self.encoder(x, latents, quality_bin(quality.to(x.device)), count)
        if self.quantizer is None:
            return Reading(z, halting, None)
        quantized = self.quantizer(z)
        return Reading(quantized.vectors, halting, quantized)

    def rebuild(self, vectors: Tensor, kept: Tensor, drop: bool = True) -> Tensor:
        """Decode the kept ones of tokens to base latents (B, G, E), or to logits (B, G, K) of base codes.

        Args:
            vectors: Tokens (B, T, Z).
            kept: (B, T) bool.
            drop: Drop halted tokens instead of masking them: the same result in less time.
        """
        if not drop:
            return self.decoder(vectors, kept)
        slots = kept.int().argsort(dim=1, descending=True, stable=True)[:, : int(kept.sum(1).max())]
        rows = vectors.gather(1, slots[..., None].expand(-1, -1, vectors.shape[2]))
        return self.decoder(rows, kept.gather(1, slots), slots)

    def pictures(self, rebuilt: Tensor) -> Tensor:
        """Decode the result of `rebuild` to pictures (B, 3, H, W) in about [0, 1].

        Without `exact_base` the latents of a KL base are not divided by their scale, as published: finetuning absorbs
        it.
        """
        grid = (self.config.grid, self.config.grid)
        if isinstance(self.base, MaskGITAutoencoder):
            return self.base.decoder(self.base.expected(rebuilt).transpose(1, 2).unflatten(2, grid))
        if self.config.exact_base:
            return to_unit(self.base.decode_latents(self.base.latents(rebuilt, grid)))
        return self.base.decode_latents(rebuilt.transpose(1, 2).unflatten(2, grid))

    def noise(self, draws: Draws) -> Tensor:
        """Noise (B, E, h, w) for sampling the latents of a KL base."""
        side = self.config.grid
        return draws.normal((draws.batch, self.config.base.channels, side, side))
