"""FlowAR: published sizes, and one that trains on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.common.presets import register_stacks
from arzoo.models.flowar.network import FlowARConfig

SIZES = {"s": (768, 6, 12), "l": (1024, 8, 16), "h": (1536, 15, 16)}

register_stacks("flowar", FlowARConfig, SIZES, "FlowAR, scale by scale")


@register("backbone")
def flowar_tiny() -> FlowARConfig:
    """Scale-wise model for a pyramid of 1 to 8 x 8 tokens of 8 channels that trains on a CPU."""
    return FlowARConfig(
        width=192, encoder_depth=3, decoder_depth=3, heads=3, channels=8, levels=(1, 2, 4, 8), classes=198,
        dropout=0.0, shared_dropout=True,
    )  # fmt: skip
