"""MAR: published sizes, and one that trains on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.mar.network import MARConfig


@register("backbone")
def mar_b() -> MARConfig:
    """MAR-B: width 768, 12 + 12 blocks, 1000 classes."""
    return MARConfig()


@register("backbone")
def mar_l() -> MARConfig:
    """MAR-L: width 1024, 16 + 16 blocks, 1000 classes."""
    return MARConfig(width=1024, depth=16, heads=16)


@register("backbone")
def mar_h() -> MARConfig:
    """MAR-H: width 1280, 20 + 20 blocks, 1000 classes."""
    return MARConfig(width=1280, depth=20, heads=16)


@register("backbone")
def mar_tiny() -> MARConfig:
    """Masked model for 8 x 8 continuous tokens that trains on a CPU."""
    return MARConfig(
        width=240, depth=3, heads=4, grid=(1, 8, 8), classes=198, buffer=8, attention_dropout=0.0
    )
