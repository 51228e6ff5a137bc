"""Embeddings that several networks share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from arzoo.models.common.activations import silu

FREQUENCIES = 128
"""Frequencies of the sinusoidal time embedding."""


class TimeEmbedding(nn.Module):
    """Cosines and sines of a time through two layers ("Denoising Diffusion Probabilistic Models", 2020, appendix B)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(2 * FREQUENCIES, width), nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """Embed times (...) from 0 to 1000 as (..., W); times need not be integers."""
        order = torch.arange(FREQUENCIES, device=t.device, dtype=torch.float32)
        angle = t.float()[..., None] * torch.exp(-math.log(10000) / FREQUENCIES * order)
        waves = torch.cat([angle.cos(), angle.sin()], -1).to(self.fc1.weight.dtype)
        return self.fc2(silu(self.fc1(waves)))


def time_tensor(t: Tensor | float, device: torch.device) -> Tensor:
    """Time of a solver as a float32 tensor; a number is filled in on the device, because copying it would block."""
    if isinstance(t, Tensor):
        return t.to(device, torch.float32)
    return torch.full((), t, dtype=torch.float32, device=device)
