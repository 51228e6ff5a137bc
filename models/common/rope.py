"""Two-dimensional rotary position embedding with interleaved pairs (RoFormer, 2021; the 2-D form of LlamaGen, 2024)."""

from __future__ import annotations

import torch
from torch import Tensor


def rope_table(rows: Tensor, columns: Tensor, head_width: int, base: float = 10000.0) -> Tensor:
    """Cosines and sines of every position.

    Args:
        rows: (n,) row coordinates; the first half of the frequencies turns with them.
        columns: (n,) column coordinates.
        head_width: Width of an attention head, a multiple of 4.
        base: Longest wavelength over 2 pi.

    Returns:
        (n, head_width / 2, 2), the last axis being (cos, sin).
    """
    half = head_width // 2
    frequency = 1.0 / (base ** (torch.arange(0, half, 2)[: half // 2].float() / half))
    angle = torch.cat([torch.outer(rows.float(), frequency), torch.outer(columns.float(), frequency)], 1)
    return torch.stack([angle.cos(), angle.sin()], -1)


def turns(table: Tensor) -> Tensor:
    """Rows of `rope_table` (1 or R, S, head_width / 2, 2) as complex numbers (1 or R, S, 1, head_width / 2)."""
    return torch.view_as_complex(table)[:, :, None]


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn adjacent pairs (2j, 2j+1), in float32: a product of complex numbers.

    Args:
        x: (R, S, heads, head_width).
        turns: (1 or R, S, 1, head_width / 2) complex64.

    Returns:
        A tensor like x; x itself, overwritten, where that saves a copy (float32 without gradients).
    """
    pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))
    if x.dtype == torch.float32 and not x.requires_grad:
        pairs.mul_(turns)  # a view of x: nothing to copy back
        return x
    return torch.view_as_real(pairs * turns).view(x.shape).to(x.dtype)
