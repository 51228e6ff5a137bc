"""Stage 1 of KARL's training: distil the base latents, and learn to halt the slots that a picture does not need.

"Single-pass Adaptive Image Tokenization for Minimum Program Search", 2025, section 3.2. Every iteration encodes the
pictures twice: first with a random number of slots and a target error, which gives an actual error; then with all slots
and the actual error as the target, where the slots beyond those of the first pass shall halt.

Shapes: B pictures, T latent slots, G grid positions, E channels of the base latents.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.tokenizers.karl.network import BINS
from arzoo.tokenizers.karl.tokenizer import Karl, Reading
from arzoo.tokenizers.vq.maskgit import MaskGITAutoencoder

KEPT = 0.99
"""Factor of the probability of a bin in every step in which it is reached."""


class Curriculum(nn.Module):
    """Distribution of the target errors of the first pass: the small ones at first, later those not reached yet.

    Args:
        largest: Largest target at first; smaller bins are equally likely.

    Attributes:
        reached: (19,) number of steps in which each bin was reached. Integers, which the average of weights copies.
    """

    reached: Tensor

    def __init__(self, largest: float = 0.04) -> None:
        super().__init__()
        self.first = [error <= largest for error in BINS]
        self.register_buffer("reached", torch.zeros(len(BINS), dtype=torch.int64))

    @property
    def weights(self) -> Tensor:
        """(19,) probability of each bin."""
        first = torch.tensor(self.first, device=self.reached.device)
        steps = self.reached - self.reached[first].min()
        weights = torch.where(first, KEPT ** steps.double(), 0.0)
        return (weights / weights.sum()).float()

    def targets(self, uniform_B: Tensor) -> Tensor:
        """Target errors (B,) from uniform numbers (B,), by inverting the distribution function."""
        running = self.weights.double().cumsum(0)
        chosen = torch.searchsorted(running, uniform_B.double() * running[-1], right=True)
        return torch.tensor(BINS, device=chosen.device)[chosen.clamp(max=sum(self.first) - 1)]

    @torch.no_grad()
    def update(self, errors_B: Tensor) -> None:
        """Reduce the probability of the bins that the best of these pictures reaches."""
        self.reached += torch.tensor(BINS, device=self.reached.device) >= errors_B.min()


def slot_counts(slots: int = 256) -> list[int]:
    """Numbers of slots among which the first pass chooses, up to 23/16 of the slots."""
    return [max(1, slots * n // 16) for n in range(1, 24)]


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


def quantizer_terms(reading: Reading, codebook: float = 1.0, commitment: float = 0.25) -> dict[str, Tensor]:
    """Weighted loss of the quantizer, if there is one."""
    if reading.quantized is None:
        return {}
    losses = reading.quantized.losses
    return {"vq": commitment * losses["commitment"] + codebook * losses["codebook"]}


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
