"""Averages over readouts: several features of a position, of which some can predict it.

Shapes: B samples, R rows, m positions, H readouts, D width.
"""

from __future__ import annotations

from torch import Tensor

from arzoo.core.contracts import Read


def readout_shares(available: Tensor, like: Tensor) -> Tensor:
    """Shares (1 or R, m, H) of the readouts in the average of a position, equal among those that can predict it.

    Args:
        available: (1 or B, m, H) bool, see `Read`.
        like: (R, ...) tensor that they are for, of whose type they are.
    """
    shares = available.to(like.dtype)
    # A position without any readout is given and never drawn; avoid 0 / 0.
    shares = shares / shares.sum(-1, keepdim=True).clamp(min=1)
    return shares.repeat(len(like) // len(shares), 1, 1) if len(shares) > 1 else shares


def average_readouts(read: Read) -> Tensor:
    """Features (R, m, D), averaged over the readouts that can predict a position."""
    assert read.features is not None
    if read.features.shape[2] == 1:
        return read.features[:, :, 0]
    if read.available is None:
        return read.features.mean(2)
    return (read.features * readout_shares(read.available, read.features)[..., None]).sum(2)
