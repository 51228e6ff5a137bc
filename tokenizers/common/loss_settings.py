"""Weights of the losses of tokenizers, as settings: the losses are in `losses`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arzoo.base.config import Config, refuse_outside

if TYPE_CHECKING:
    from arzoo.tokenizers.common.losses import TokenizerLoss


@dataclass(frozen=True, kw_only=True)
class TokenizerLossConfig(Config):
    """Weights of the terms. The defaults are the published ones.

    They are LlamaGen's; KL autoencoders of latent diffusion differ in `l1` 1, `l2` 0, `adversarial_start` 50000 and
    `adaptive`.

    Attributes:
        l1: Mean absolute error.
        l2: Mean squared error.
        perceptual: Distance in a fixed feature network; 0 does without the network.
        codebook: VQ: pulls codes to latents.
        commitment: VQ: pulls latents to codes.
        entropy: VQ: entropy term of the quantiser; 0 does not compute it.
        kl: KL: nats of the posterior of a picture, divided by the picture's 3 H W numbers as the means beside it are.
        adversarial: Weight of the adversarial term; 0 trains no discriminator.
        adversarial_start: Step, counted from 0, from which both players act: the tokenizer learns alone before it.
        adaptive: Scale the adversarial term to the gradient of reconstruction and perceptual terms at the last layer.
        discriminator_width: Channels of the discriminator's first layer.
        discriminator_layers: Its layers with stride 2.
    """

    l1: float = 0.0
    l2: float = 1.0
    perceptual: float = 1.0
    codebook: float = 1.0
    commitment: float = 0.25
    entropy: float = 0.0
    kl: float = 1e-6
    adversarial: float = 0.5
    adversarial_start: int = 20000
    adaptive: bool = False
    discriminator_width: int = 64
    discriminator_layers: int = 3

    def __post_init__(self) -> None:
        weights = ("l1", "l2", "perceptual", "codebook", "commitment", "entropy", "kl", "adversarial")
        refuse_outside(self, "loss.", dict.fromkeys((*weights, "adversarial_start"), (0, math.inf)))
        sizes = ("discriminator_width", "discriminator_layers")
        refuse_outside(self, "loss.", dict.fromkeys(sizes, (1, math.inf)))

    def build(self) -> TokenizerLoss:
        """The loss with its perceptual distance."""
        from arzoo.tokenizers.common.losses import TokenizerLoss
        from arzoo.tokenizers.common.perceptual import PerceptualDistance

        return TokenizerLoss(self, PerceptualDistance() if self.perceptual else None)
