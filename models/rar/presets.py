"""RAR: published sizes, for codes of MaskGIT's tokenizer, and one that trains on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.rar.network import RARConfig

SIZES = {
    "b": (768, 24, 16, 0),
    "l": (1024, 24, 16, 0),
    "xl": (1280, 32, 16, 0),
    "xxl": (1408, 40, 16, 6144),
}
"""Width, depth, heads and feed-forward width (0 is 4 times the width) of the published sizes."""


def _register(size: str) -> None:
    width, depth, heads, hidden = SIZES[size]

    def config() -> RARConfig:
        return RARConfig(
            width=width,
            depth=depth,
            heads=heads,
            hidden_width=hidden,
            unused_positions=1022,
            unused_places=98,
        )

    config.__doc__ = (
        f"RAR, raster after random orders, 1000 classes: width {width}, {depth} blocks, {heads} heads."
    )
    register("backbone", f"rar_{size}")(config)


for _size in SIZES:
    _register(_size)


@register("backbone")
def rar_tiny() -> RARConfig:
    """Model for random orders of 8 x 8 tokens that trains on a CPU."""
    return RARConfig(
        width=256, depth=4, heads=4, vocab=2048, grid=(1, 8, 8), classes=198, shared_dropout=True
    )
