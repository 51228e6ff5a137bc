"""FlowAR: published sizes, and one that trains on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.flowar.network import FlowARConfig

_SIZES = {"s": (768, 6, 12), "l": (1024, 8, 16), "h": (1536, 15, 16)}


def _preset(size: str) -> None:
    width, depth, heads = _SIZES[size]

    def config() -> FlowARConfig:
        return FlowARConfig(width=width, encoder_depth=depth, decoder_depth=depth, heads=heads)

    config.__doc__ = (
        f"FlowAR, scale by scale, 1000 classes: width {width}, 2 x {depth} blocks, {heads} heads."
    )
    register("backbone", f"flowar_{size}")(config)


for _size in _SIZES:
    _preset(_size)


@register("backbone")
def flowar_tiny() -> FlowARConfig:
    """Scale-wise model for a pyramid of 1 to 8 x 8 tokens of 8 channels that trains on a CPU."""
    return FlowARConfig(
        width=192, encoder_depth=3, decoder_depth=3, heads=3, channels=8, levels=(1, 2, 4, 8), classes=198,
        dropout=0.0, shared_dropout=True,
    )  # fmt: skip
