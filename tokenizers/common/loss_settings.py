"""Weights of the losses of tokenizers, as settings; the losses themselves are in `losses`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arzoo.base.config import Config, refuse_outside

if TYPE_CHECKING:
    from arzoo.tokenizers.common.losses import TokenizerLoss


@dataclass(frozen=True, kw_only=True)
class TokenizerLossConfig(Config):
    """Weights of the loss terms. The defaults are those published for LlamaGen.

    The KL autoencoders of latent diffusion differ in `l1` 1, `l2` 0, `adversarial_start` 50000 and `adaptive`.

    Attributes:
        l1: Mean absolute error.
        l2: Mean squared error.
        perceptual: Distance in a fixed feature network, which `arzoo[drawings]` installs; with 0 none is needed.
        codebook: VQ: pulls codes to latents.
        commitment: VQ: pulls latents to codes.
        entropy: VQ: entropy term of the quantizer; with 0 it is not computed.
        kl: KL: divergence of the posterior of a picture in nats, divided by the picture's 3 H W numbers because the
            other terms are means over them.
        flow: FlexTok: squared error of the velocity that draws the picture.
        align: One minus the cosine of early features of FlexTok's flow decoder, or of the quantized vectors of other
            tokenizers of still pictures, through a small head, and those of a frozen network of pictures (REPA, which
            takes 0.5); with 0 neither is built.
        adversarial: Weight of the adversarial term; with 0 no discriminator is trained.
        adversarial_start: First step, counted from 0, with the adversarial terms; before it the tokenizer learns alone.
        adaptive: Scale the adversarial term to the gradient of reconstruction and perceptual terms at the last layer.
        discriminator_width: Channels of the discriminator's first layer.
        discriminator_layers: Layers of the discriminator with stride 2.
    """

    l1: float = 0.0
    l2: float = 1.0
    perceptual: float = 1.0
    codebook: float = 1.0
    commitment: float = 0.25
    entropy: float = 0.0
    kl: float = 1e-6
    flow: float = 1.0
    align: float = 0.0
    adversarial: float = 0.5
    adversarial_start: int = 20000
    adaptive: bool = False
    discriminator_width: int = 64
    discriminator_layers: int = 3

    def __post_init__(self) -> None:
        weights = ("l1", "l2", "perceptual", "codebook", "commitment", "entropy", "kl", "flow", "align")
        more = ("adversarial", "adversarial_start")
        refuse_outside(self, "loss.", dict.fromkeys((*weights, *more), (0, math.inf)))
        sizes = ("discriminator_width", "discriminator_layers")
        refuse_outside(self, "loss.", dict.fromkeys(sizes, (1, math.inf)))

    def build(self) -> TokenizerLoss:
        """Build the loss with its perceptual distance."""
        from arzoo.tokenizers.common.losses import TokenizerLoss
        from arzoo.tokenizers.common.perceptual import PerceptualDistance

        return TokenizerLoss(self, PerceptualDistance() if self.perceptual else None)
