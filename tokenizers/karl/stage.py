"""Stage 1 of KARL's training: distil the base latents, and learn to halt the slots that a picture does not need.

"Single-pass Adaptive Image Tokenization for Minimum Program Search", 2025, section 3.2. Every iteration encodes the
pictures twice: first with a random number of slots and a target error, which gives an actual error; then with all slots
and the actual error as the target, where the slots beyond those of the first pass shall halt.

Shapes: B pictures, T latent slots, G grid positions, E channels of the base latents.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from arzoo.tokenizers.karl.network import BINS
from arzoo.tokenizers.karl.tokenizer import Karl, Reading
from arzoo.tokenizers.vq.maskgit import MaskGITAutoencoder

COMMITMENT = 0.25


class Curriculum:
    """Distribution of the target errors of the first pass: the smallest at first, later those not reached yet.

    Attributes:
        weights: (19,) probability of each bin.
    """

    def __init__(self) -> None:
        self.weights = torch.tensor([0.2 if error <= 0.04 else 0.0 for error in BINS])

    def update(self, errors_B: Tensor) -> None:
        """Reduce the probability of the bins that the best of these pictures reaches."""
        reached = torch.tensor(BINS) >= errors_B.min().cpu()
        weights = torch.where(reached, 0.99 * self.weights, self.weights)
        self.weights = weights / weights.sum()


def slot_counts() -> list[int]:
    """Numbers of slots among which the first pass chooses."""
    return list(range(16, 369, 16))


def reconstruction_terms(
    model: Karl, rebuilt: Tensor, latents: Tensor, codes: Tensor | None
) -> dict[str, Tensor]:
    """Loss terms that compare the rebuilt grid with that of the base autoencoder.

    Args:
        model: The tokenizer.
        rebuilt: Result of `Karl.rebuild`.
        latents: (B, E, h, w) result of `Karl.base_latents`, the target for a KL base.
        codes: (B, G) codes of the base, if it has any.
    """
    if codes is None or not isinstance(model.base, MaskGITAutoencoder):
        return {"code_mse": F.mse_loss(rebuilt, latents.flatten(2).transpose(1, 2))}
    return {
        "nll": F.cross_entropy(rebuilt.flatten(0, 1), codes.flatten()),
        "code_mse": F.mse_loss(model.base.expected(rebuilt), model.base.codebook(codes)),
    }


def quantizer_terms(reading: Reading) -> dict[str, Tensor]:
    """Loss of the quantizer, if there is one."""
    if reading.quantized is None:
        return {}
    losses = reading.quantized.losses
    return {"vq": COMMITMENT * losses["commitment"] + losses["codebook"]}


def halting_terms(halting: Tensor, beyond: int) -> dict[str, Tensor]:
    """Loss terms that keep all slots but the last `beyond`, and halt the latter; each is a mean over its slots."""
    active = halting.shape[1] - beyond
    kept, halted = halting[:, :active], halting[:, active:]
    terms = {"bce_active": F.binary_cross_entropy_with_logits(kept, torch.zeros_like(kept))}
    if beyond:
        terms["bce_halt"] = F.binary_cross_entropy_with_logits(halted, torch.ones_like(halted))
    return terms


def pixel_errors(x: Tensor, pictures: Tensor) -> Tensor:
    """Mean absolute error (B,) of pictures in [0, 1], not clamped."""
    return (x - pictures).abs().mean((1, 2, 3)).detach()
