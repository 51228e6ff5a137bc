"""How well a tokenizer gives pictures back."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB of pictures (B, H, W, 3) uint8; equal pictures give infinity."""
    error = (a.double() - b.double()).square().mean((1, 2, 3))
    return 10 * torch.log10(255.0**2 / error)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (B,) of pictures (B, H, W, 3) uint8, Gaussian window of 11 pixels."""
    x, y = (t.permute(0, 3, 1, 2).double() for t in (a, b))
    value = structural_similarity_index_measure(x, y, data_range=255.0, reduction="none")
    assert isinstance(value, Tensor)
    return value.reshape(-1)
