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


def check_fits(model: Tokenizer, loss: TokenizerLossConfig, precision: torch.dtype) -> set[str]:
    """Train on one batch until its squared error has halved; returns the names of the terms of the loss."""
    x, criterion = pictures(8), loss.build()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    errors = []
    for step in range(30):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            clips, bottleneck = model(as_clips(x))
            total, terms = criterion.generator(x, as_pictures(clips), bottleneck, None, step)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        errors.append(terms["l2"].item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert errors[-1] < 0.5 * errors[0]
    return set(terms)
