"""Diagonal Gaussian over latents, the bottleneck of KL autoencoders.

"Auto-Encoding Variational Bayes", 2014, section 3, in the arithmetic of "High-Resolution Image Synthesis with Latent
Diffusion Models", 2022. Everything is computed in float32 whatever the precision around it.

Shapes: B pictures, C channels, h x w grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arzoo.tokenizers.common.bottleneck import Bottleneck

if TYPE_CHECKING:
    from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig


@dataclass
class Posterior(Bottleneck):
    """A normal distribution for every number of the latents.

    Attributes:
        mean: (B, C, h, w).
        logvar: (B, C, h, w) logarithm of the variance, within [-30, 20].
    """

    mean: Tensor
    logvar: Tensor

    @staticmethod
    def of(moments: Tensor) -> Posterior:
        """Posterior of moments (B, 2C, h, w): means, then logarithms of variances."""
        mean, logvar = moments.float().chunk(2, 1)
        return Posterior(mean, logvar.clamp(-30, 20))

    @property
    def std(self) -> Tensor:
        """(B, C, h, w) standard deviation."""
        return (0.5 * self.logvar).exp()

    def sample(self, noise: Tensor) -> Tensor:
        """Latents (B, C, h, w) for standard normal noise of that shape."""
        return self.mean + self.std * noise

    def kl(self) -> Tensor:
        """Divergence (B,) from the standard normal distribution, nats a picture."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar).sum((1, 2, 3))

    def terms(self, weights: TokenizerLossConfig, x: Tensor) -> dict[str, Tensor]:
        """Its part of a tokenizer's loss, before the weight: nats a number of the pictures x (B, 3, H, W)."""
        return {"kl": self.kl().mean() / x[0].numel()} if weights.kl else {}

    @staticmethod
    def figures(found: Sequence[Posterior]) -> dict[str, float]:
        """Mean divergence over batches, nats a picture."""
        return {"kl": float(torch.cat([posterior.kl() for posterior in found]).mean())}
