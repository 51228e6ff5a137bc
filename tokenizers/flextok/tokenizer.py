"""The FlexTok tokenizer: pictures to an ordered sequence of codes, and any prefix of codes to a picture.

Shapes: B pictures, C channels, h x w latents, K registers, Z channels of a code, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from arzoo.core.clips import as_clips
from arzoo.core.contracts import Tokenizer
from arzoo.core.draws import Draws
from arzoo.core.layout import Ordered
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.tokenizers.common.bottleneck import Bottleneck
from arzoo.tokenizers.common.lengths import ERRORS, shortest_prefix
from arzoo.tokenizers.common.prefix import refuse_empty
from arzoo.tokenizers.common.still_pictures import pictures_of
from arzoo.tokenizers.flextok.flow import draw
from arzoo.tokenizers.flextok.network import (
    FlexTokConfig,
    FlowDecoder,
    RegisterEncoder,
    kept_registers,
    set_initial_weights,
)
from arzoo.tokenizers.quantizers.base import Quantization
from arzoo.tokenizers.quantizers.fsq import FSQ

if TYPE_CHECKING:
    from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig


@dataclass
class FlowMatching(Bottleneck):
    """Bottleneck and loss of a training pass with a flow decoder.

    Attributes:
        flow: Mean squared error of the velocity.
        quantized: Quantization of the registers.
        features: In training, features (B, P, D) of the patches after the decoder's block `align_after`; None if it
            has no such block.
    """

    flow: Tensor
    quantized: Quantization
    features: Tensor | None = None

    def terms(self, weights: TokenizerLossConfig, x: Tensor) -> dict[str, Tensor]:
        """Unweighted loss of the flow."""
        return {"flow": self.flow}

    @staticmethod
    def figures(bottlenecks: Iterable[FlowMatching]) -> dict[str, float]:
        """Mean loss of the flow, and perplexity of the codes."""
        losses = list[float]()

        def quantized() -> Iterator[Quantization]:
            for bottleneck in bottlenecks:
                losses.append(float(bottleneck.flow))
                yield bottleneck.quantized

        perplexity = Quantization.figures(quantized())
        return {"flow": float(torch.tensor(losses).mean()), **perplexity}


class FlexTok(Tokenizer):
    """Tokenizer of pictures as `registers` codes, coarse to fine.

    Args:
        config: Sizes.
    """

    config: FlexTokConfig
    qualities, noisy = ERRORS, True

    def __init__(self, config: FlexTokConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = (config.image_size, config.image_size)
        self.quantizer = FSQ(config.levels)
        self.spec = TokenSpec(Ordered(config.registers), vocab=self.quantizer.vocab, prefix_ok=True)
        self.base = config.base.build().requires_grad_(False) if config.base else None
        self.encoder, self.decoder = RegisterEncoder(config), FlowDecoder(config)
        set_initial_weights(self.encoder, self.decoder)

    def encode(self, x: Tensor, quality: float | Tensor | None = None) -> Tokens:
        """Encode pictures (B, 3, 1, H, W) in [-1, 1] as codes (B, K).

        Args:
            x: Pictures.
            quality: Acceptable mean absolute error of pixels in [0, 1], one number or (B,): the shortest prefix that
                reaches it is kept (`lengths.shortest_prefix`); without it, all codes.

        Raises:
            ArzooError: They are not still pictures of the tokenizer's size, or a quality is out of range.
        """
        vectors = self.encoder(self.latents(pictures_of(x, self.image_size)))
        tokens = Tokens.of(self.quantizer(vectors).codes, layout=self.spec.layout)
        return tokens if quality is None else shortest_prefix(self.decode, tokens, x, quality).tokens

    def decode(self, tokens: Tokens, draws: Draws | None = None) -> Tensor:
        """Draw pictures (B, 3, 1, H, W) in about [-1, 1] from the tokens before `Tokens.length`.

        Args:
            tokens: Codes.
            draws: Randomness of the initial noise; by default every picture starts from the noise of seed 0.

        Raises:
            ArzooError: They are not tokens of this tokenizer, or a picture has none.
        """
        self.spec.require(tokens)
        refuse_empty(tokens)
        vectors = self.quantizer.vectors_of(tokens)
        noise = self.noise(draws or Draws([0] * len(vectors))).to(vectors.device)
        return as_clips(self.pictures(self.draw(vectors, tokens.length, noise)))

    def forward(self, x: Tensor) -> tuple[None, FlowMatching]:
        """Compute the loss of the flow on pictures (B, 3, 1, H, W); no picture is drawn.

        In training mode every picture gets a random time, number of registers and noise, and drops all registers with
        the config's `null_probability`. In evaluation mode times are evenly spaced, noise has fixed seeds, and all
        registers are used.
        """
        latents = self.latents(pictures_of(x, self.image_size))
        quantized = self.quantizer(self.encoder(latents))
        batch, count = len(latents), self.config.registers
        if self.training:
            noise, normal = torch.randn_like(latents), torch.randn_like(latents.new_empty(batch, 3))
            t, uniform = normal[:, 0].sigmoid(), torch.special.ndtr(normal[:, 1:].double())
            keep = kept_registers(self.config.lengths, uniform[:, 0], count)
            keep = keep * (uniform[:, 1] >= self.config.null_probability)
        else:
            noise = Draws(range(batch)).normal(latents.shape).to(latents.device)
            t = (torch.arange(batch, device=latents.device) + 0.5) / batch
            keep = torch.full((batch,), count, device=latents.device)
        share = t.view(-1, 1, 1, 1)
        registers = self.decoder.embed(quantized.vectors, keep)
        after = self.config.align_after if self.training else None
        velocity, features = self.decoder((1 - share) * latents + share * noise, t, registers, after)
        return None, FlowMatching(F.mse_loss(velocity.float(), noise - latents), quantized, features)

    @torch.no_grad()
    def latents(self, x: Tensor) -> Tensor:
        """Targets of the flow: latents (B, C, h, w) of pictures (B, 3, H, W) in [-1, 1], or the pictures themselves."""
        if self.base is None:
            return x
        return self.base.posterior(x).mean * self.base.config.scale

    def pictures(self, latents: Tensor) -> Tensor:
        """Decode latents to pictures (B, 3, H, W)."""
        if self.base is None:
            return latents
        return self.base.decode_latents(latents / self.base.config.scale)

    def draw(
        self,
        vectors_BKZ: Tensor,
        keep_B: Tensor,
        noise: Tensor,
        steps: int | None = None,
        guidance: float | None = None,
        projected: bool | None = None,
    ) -> Tensor:
        """Draw latents (B, C, h, w) from quantized vectors, whose embedding is computed once for all steps.

        Args:
            vectors_BKZ: Quantized vectors.
            keep_B: Number of leading vectors of each picture to use.
            noise: (B, C, h, w).
            steps: Steps of the flow; by default those of the config.
            guidance: Scale of guidance, 1 is off; by default that of the config.
            projected: Use projected guidance; by default as the config says.
        """
        c = self.config
        scale = c.guidance if guidance is None else guidance
        registers = self.decoder.embed(vectors_BKZ, keep_B)
        if scale != 1:
            registers = torch.cat([registers, self.decoder.null.to(registers.dtype).expand_as(registers)])

        def velocity(x: Tensor, t: float) -> tuple[Tensor, Tensor | None]:
            time = torch.full((1,), t, device=x.device)
            v, _ = self.decoder(torch.cat([x, x]) if scale != 1 else x, time, registers)
            return (v, None) if scale == 1 else (v[: len(x)], v[len(x) :])

        return draw(velocity, noise, steps or c.steps, scale, c.projected if projected is None else projected)

    def noise(self, draws: Draws) -> Tensor:
        """Initial noise (B, C, h, w) of the flow."""
        side = self.config.side
        return draws.normal((draws.batch, self.config.channels, side, side))
