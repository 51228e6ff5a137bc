"""Diagonal Gaussian over latents, the bottleneck of KL autoencoders.

"Auto-Encoding Variational Bayes", 2014, section 3, in the arithmetic of "High-Resolution Image Synthesis with Latent
Diffusion Models", 2022. Everything is computed in float32 whatever the precision of the network.

Shapes: B pictures, C channels, h x w grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arzoo.tokenizers.common.bottleneck import Bottleneck

if TYPE_CHECKING:
    from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig


@dataclass
class Posterior(Bottleneck):
    """Independent normal distributions, one for every entry of the latents.

    Attributes:
        mean: (B, C, h, w).
        logvar: (B, C, h, w) log-variance, in [-30, 20].
    """

    mean: Tensor
    logvar: Tensor

    @staticmethod
    def of(moments: Tensor) -> Posterior:
        """Posterior with moments (B, 2C, h, w): means, then log-variances."""
        mean, logvar = moments.float().chunk(2, 1)
        return Posterior(mean, logvar.clamp(-30, 20))

    @property
    def std(self) -> Tensor:
        """(B, C, h, w) standard deviation."""
        return (0.5 * self.logvar).exp()

    def sample(self, noise: Tensor) -> Tensor:
        """Latents (B, C, h, w), from standard normal noise of that shape."""
        return self.mean + self.std * noise

    def kl(self) -> Tensor:
        """Divergence (B,) from the standard normal distribution, in nats per picture."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar).sum((1, 2, 3))

    def terms(self, weights: TokenizerLossConfig, x: Tensor) -> dict[str, Tensor]:
        """Unweighted loss term: nats per number of the pictures or clips x, folded into a batch or not."""
        return {"kl": self.kl().sum() / x.numel()} if weights.kl else {}

    @staticmethod
    def figures(bottlenecks: Iterable[Posterior]) -> dict[str, float]:
        """Mean divergence over all batches, in nats per picture."""
        return {"kl": float(torch.tensor([nats for one in bottlenecks for nats in one.kl().tolist()]).mean())}


def standardizing(posteriors: Iterable[Posterior]) -> tuple[float, float]:
    """Shift and scale for which (samples - shift) * scale have mean 0 and standard deviation 1, over all posteriors."""
    count, total, squares = 0, 0.0, 0.0
    for posterior in posteriors:
        second = posterior.mean.double().square() + posterior.std.double().square()
        count += second.numel()
        total, squares = total + float(posterior.mean.double().sum()), squares + float(second.sum())
    shift = total / count
    return shift, (squares / count - shift**2) ** -0.5
