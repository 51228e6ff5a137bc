"""What the tests of both kinds of tokenizers do alike."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from arzoo.core.clips import as_clips, as_pictures
from arzoo.core.contracts import Tokenizer
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig


def pictures(count: int = 4, size: int = 16) -> torch.Tensor:
    """Smooth random pictures."""
    return F.interpolate(torch.rand(count, 3, 4, 4) * 2 - 1, size=size, mode="bilinear")


def clips(count: int = 4, size: int = 16) -> torch.Tensor:
    """The same as clips of one frame."""
    return as_clips(pictures(count, size))


def moving(count: int = 4, frames: int = 5, size: int = 16) -> torch.Tensor:
    """Smooth random clips, whose frames differ."""
    x = torch.rand(count, 3, 2, 4, 4) * 2 - 1
    return F.interpolate(x, size=(frames, size, size), mode="trilinear")


def check_fits(
    model: Tokenizer, loss: TokenizerLossConfig, precision: torch.dtype, x: torch.Tensor | None = None
) -> set[str]:
    """Train on one batch until its squared error has halved; returns the names of the terms of the loss.

    Args:
        model: The tokenizer.
        loss: Weights of the loss.
        precision: Type of the products.
        x: Pictures or clips; pictures of 16 x 16 if left out.
    """
    x, criterion = pictures(8) if x is None else x, loss.build()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    errors = []
    for step in range(30):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            clips, bottleneck = model(as_clips(x))
            rebuilt = clips if x.dim() == 5 else as_pictures(clips)
            total, terms = criterion.generator(x, rebuilt, bottleneck, None, step)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        errors.append(terms["l2"].item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert errors[-1] < 0.5 * errors[0]
    return set(terms)
