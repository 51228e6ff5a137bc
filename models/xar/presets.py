"""xAR: published sizes, and one that trains on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.xar.network import XARConfig

_SIZES = {"b": (768, 8, 12), "l": (1024, 16, 16), "h": (1280, 20, 16)}


def _preset(size: str) -> None:
    width, depth, heads = _SIZES[size]

    def config() -> XARConfig:
        return XARConfig(width=width, encoder_depth=depth, decoder_depth=depth, heads=heads)

    config.__doc__ = (
        f"xAR, next-X flow matching, 1000 classes: width {width}, 2 x {depth} blocks, {heads} heads."
    )
    register("backbone", f"xar_{size}")(config)


for _size in _SIZES:
    _preset(_size)


@register("backbone")
def xar_tiny() -> XARConfig:
    """Next-X model for 8 x 8 tokens of 8 channels that trains on a CPU."""
    return XARConfig(
        width=192, encoder_depth=4, decoder_depth=4, heads=3, channels=8, grid=(1, 8, 8), classes=198,
        dropout=0.0, shared_dropout=True,
    )  # fmt: skip
