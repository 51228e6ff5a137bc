"""Hi-MAR: published sizes, and one that trains on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.himar.network import HiMARConfig


@register("backbone")
def himar_b() -> HiMARConfig:
    """Hi-MAR-B: width 768, 12 + 12 blocks, 8 x 8 pivots, 1000 classes."""
    return HiMARConfig()


@register("backbone")
def himar_l() -> HiMARConfig:
    """Hi-MAR-L: width 1024, 16 + 16 blocks, 8 x 8 pivots, 1000 classes."""
    return HiMARConfig(width=1024, depth=16, heads=16)


@register("backbone")
def himar_h() -> HiMARConfig:
    """Hi-MAR-H: width 1280, 20 + 20 blocks, 8 x 8 pivots, 1000 classes."""
    return HiMARConfig(width=1280, depth=20, heads=16)


@register("backbone")
def himar_tiny() -> HiMARConfig:
    """Masked model for 4 x 4 pivots and 8 x 8 continuous tokens that trains on a CPU."""
    return HiMARConfig(
        width=192, depth=3, heads=3, channels=8, levels=(4, 8), classes=198, buffer=8, attention_dropout=0.0
    )
