"""MaskGIT: the generators of TiTok with BERT's network, and one that trains on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.maskgit.network import MaskGITConfig


@register("backbone")
def maskgit_l32() -> MaskGITConfig:
    """Generator of TiTok-L-32, 32 of 4096 codes, 1000 classes: width 768, 24 blocks, 16 heads."""
    return MaskGITConfig()


@register("backbone")
def maskgit_b64() -> MaskGITConfig:
    """Generator of TiTok-B-64, 64 of 4096 codes, 1000 classes: width 768, 24 blocks, 16 heads."""
    return MaskGITConfig(grid=(1, 1, 64))


@register("backbone")
def maskgit_tiny() -> MaskGITConfig:
    """Masked model for 32 codes that trains on a CPU."""
    return MaskGITConfig(width=256, depth=6, heads=4, vocab=1000, classes=198, shared_dropout=True)
