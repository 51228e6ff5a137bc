"""Losses of tokenizers: reconstruction, perceptual and adversarial terms, and the terms of the bottleneck.

VQ: LlamaGen ("Autoregressive Model Beats Diffusion", 2024), section 2.1. KL: "High-Resolution Image Synthesis with
Latent Diffusion Models", 2022, section 3.1 and appendix G; its scalar log-variance, which stays 0 there, is left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.tokenizers.common.bottleneck import Bottleneck
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig


class TokenizerLoss:
    """Losses of the tokenizer and of the discriminator, as functions of their outputs.

    Args:
        config: Weights.
        perceptual: Module `(x, y) -> (B,)` distance; may be None when its weight is 0.

    Raises:
        ArzooError: The perceptual term has a weight but no network.
    """

    def __init__(self, config: TokenizerLossConfig, perceptual: nn.Module | None = None) -> None:
        if config.perceptual and perceptual is None:
            raise ArzooError(
                f"the perceptual weight is {config.perceptual}: pass a network, or set the weight to 0"
            )
        self.config, self.perceptual = config, perceptual

    def adversarial_weight(self, step: int) -> float:
        """Weight of the adversarial terms at a step: zero before `adversarial_start`."""
        return self.config.adversarial if step >= self.config.adversarial_start else 0.0

    def generator(
        self,
        x: Tensor,
        reconstruction: Tensor | None,
        bottleneck: Bottleneck,
        logits_fake: Tensor | None,
        step: int,
        last_layer: Tensor | None = None,
        frames: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the tokenizer.

        Args:
            x: Pictures (B, 3, H, W) or clips (B, 3, T, H, W).
            reconstruction: Output of the decoder, like x; None if a training pass makes no picture.
            bottleneck: Bottleneck of the same pass.
            logits_fake: Logits of the discriminator on the reconstruction; None before `adversarial_start`.
            step: Completed steps.
            last_layer: Weight at which the adaptive weight is computed.
            frames: Of clips, the frames (F, 3, H, W) that the perceptual network compares, and their reconstructions.

        Returns:
            The loss, and its unweighted terms by name.

        Raises:
            ArzooError: A term of pictures has a weight, and there is no reconstruction.
        """
        c, terms, loss = self.config, dict[str, Tensor](), x.new_zeros(())
        if reconstruction is None:
            self.refuse_pictures("set these weights to 0")
        else:
            reconstruction = reconstruction.float()
            terms = {"l1": F.l1_loss(reconstruction, x), "l2": F.mse_loss(reconstruction, x)}
            loss = c.l1 * terms["l1"] + c.l2 * terms["l2"]
        if c.perceptual and self.perceptual is not None:
            real, rebuilt = frames or (x, reconstruction)
            terms["perceptual"] = self.perceptual(rebuilt, real).mean()
            loss = loss + c.perceptual * terms["perceptual"]
        weight = self.adversarial_weight(step)
        if logits_fake is not None and weight:
            terms["adversarial"] = -logits_fake.float().mean()
            scale: float | Tensor = weight
            if c.adaptive and last_layer is not None:
                scale = weight * adaptive_weight(loss, terms["adversarial"], last_layer)
            loss = loss + scale * terms["adversarial"]
        for name, term in bottleneck.terms(c, x).items():
            terms[name] = term
            loss = loss + getattr(c, name) * term
        return loss, terms

    def refuse_pictures(self, remedy: str) -> None:
        """Refuse weights of terms of pictures; the message ends with the remedy."""
        weights = {name: getattr(self.config, name) for name in ("l1", "l2", "perceptual", "adversarial")}
        if positive := [f"loss.{name}={weight:g}" for name, weight in weights.items() if weight]:
            raise ArzooError(
                f"this tokenizer makes no picture while it is trained, so {', '.join(positive)} cannot act: {remedy}"
            )

    def discriminator(self, logits_real: Tensor, logits_fake: Tensor, step: int) -> Tensor:
        """Hinge loss of the discriminator, weighted like the adversarial term."""
        return self.adversarial_weight(step) * hinge(logits_real, logits_fake)


def hinge(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """Hinge loss ("Geometric GAN", 2017): real logits above 1, fake ones below -1."""
    return 0.5 * (F.relu(1 - logits_real.float()).mean() + F.relu(1 + logits_fake.float()).mean())


def adaptive_weight(loss: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Ratio of the gradient norms of two losses at one layer, at most 1e4 (VQGAN, 2021, equation 7)."""
    of_loss, of_adversarial = (
        torch.autograd.grad(value, last_layer, retain_graph=True)[0].norm() for value in (loss, adversarial)
    )
    return (of_loss / (of_adversarial + 1e-4)).clamp(0, 1e4).detach()
