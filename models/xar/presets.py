"""xAR: published sizes, and one that trains on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.common.presets import register_stacks
from arzoo.models.xar.network import XARConfig

SIZES = {"b": (768, 8, 12), "l": (1024, 16, 16), "h": (1280, 20, 16)}

register_stacks("xar", XARConfig, SIZES, "xAR, next-X flow matching")


@register("backbone")
def xar_tiny() -> XARConfig:
    """Next-X model for 8 x 8 tokens of 8 channels that trains on a CPU."""
    return XARConfig(
        width=192, encoder_depth=4, decoder_depth=4, heads=3, channels=8, grid=(1, 8, 8), classes=198,
        dropout=0.0, shared_dropout=True,
    )  # fmt: skip
