"""Rotary position embedding of several axes with interleaved pairs (RoFormer, 2021; the 2-D form of LlamaGen, 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.layout import Grid
from arzoo.models.common.activations import even_shares


def turning_coords(grid: Grid) -> Tensor:
    """Return coordinates (n, 2) of a picture, (row, column), or (n, 3) of a clip, (frame, row, column)."""
    return grid.coords()[:, 0 if grid.t > 1 else 1 :].float()


def require_rotary(width: int, heads: int) -> None:
    """Check that heads of this number can be rotated on a picture.

    Raises:
        ArzooError: The width is no multiple of them, or the width of a head no multiple of 4.
    """
    if width % heads or (width // heads) % 4:
        raise ArzooError(
            f"width {width} over {heads} heads is {width / heads:g} channels per head; rotary positions need a "
            "multiple of 4"
        )


def rope_table(coords: Tensor, head_width: int, base: float = 10000.0) -> Tensor:
    """Compute cosines and sines for each position.

    The pairs of a head are split evenly over the axes, and the first axis takes the remainder; each axis rotates its
    pairs with its own frequencies.

    Args:
        coords: (n, A) coordinates on A axes.
        head_width: Width of an attention head, a multiple of 4.
        base: Longest wavelength over 2 pi.

    Returns:
        (n, head_width / 2, 2), the last axis being (cos, sin).

    Raises:
        ArzooError: There are fewer pairs than axes.
    """
    pairs, axes = head_width // 2, coords.shape[1]
    per_axis = pairs // axes
    if not per_axis:
        raise ArzooError(
            f"rotary positions on {axes} axes need attention heads of at least {2 * axes} channels, got {head_width}: "
            "use fewer heads or a larger width"
        )
    counts = [pairs - per_axis * (axes - 1)] + [per_axis] * (axes - 1)
    angle = torch.cat(
        [
            torch.outer(place, 1.0 / (base ** (torch.arange(0, 2 * count, 2).float() / (2 * count))))
            for place, count in zip(coords.float().unbind(1), counts, strict=True)
        ],
        1,
    )
    return torch.stack([angle.cos(), angle.sin()], -1)


def turns(table: Tensor) -> Tensor:
    """View rows of `rope_table` (1 or R, S, head_width / 2, 2) as complex numbers (1 or R, S, 1, head_width / 2)."""
    return torch.view_as_complex(table)[:, :, None]


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate adjacent pairs (2j, 2j+1) in float32, as a product of complex numbers.

    Where threads would share a head, real numbers are multiplied instead, which rounds alike for any number of rows.

    Args:
        x: (R, S, heads, head_width).
        turns: (1 or R, S, 1, head_width / 2) complex64.

    Returns:
        A tensor like x; x itself, overwritten, where that saves a copy (float32 without gradients).
    """
    pairs = x.float().view(*x.shape[:-1], -1, 2)
    if x.dtype != torch.float32 or x.requires_grad:
        return torch.view_as_real(torch.view_as_complex(pairs) * turns).view(x.shape).to(x.dtype)
    if x.device.type != "cpu" or even_shares(x.shape[2]):
        torch.view_as_complex(pairs).mul_(turns)  # a view of x: nothing to copy back
        return x
    crossed = pairs.flip(-1).mul_(torch.stack([-turns.imag, turns.imag], -1))
    pairs.mul_(turns.real[..., None]).add_(crossed)
    return x
