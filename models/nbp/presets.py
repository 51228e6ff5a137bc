"""NBP: published sizes, and a model that trains on a CPU."""

from __future__ import annotations

from typing import Any

from arzoo.base.registry import register
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.models.llamagen.presets import raster_tiny
from arzoo.models.nbp.network import NBPConfig

SIZES = {"base": (1536, 24, 16), "xl": (2048, 24, 32), "3b": (3072, 32, 32)}
"""Width, depth and heads of the published sizes."""


def _register(name: str, title: str, size: str, **settings: Any) -> None:
    width, depth, heads = SIZES[size]

    def config() -> NBPConfig:
        return NBPConfig(width=width, depth=depth, heads=heads, **settings)

    config.__doc__ = f"NBP, {title}: width {width}, {depth} blocks, {heads} heads."
    register("backbone", f"{name}_{size}")(config)


for _size in SIZES:
    _register("nbp_k600", "frame prediction", _size)
    _register("nbp_ucf", "blocks of 16, classes as texts", _size, text_vocab=32000, text_length=8, extras=15)


@register("backbone")
def nbp_clip_tiny() -> TransformerConfig:
    """Next-block model for 5 x 8 x 8 tokens that trains on a CPU, for the plan next_block with hybrid=true.

    The network is that of LlamaGen: rotary positions in three axes need no table of places in the sequence, and the
    learned transition inputs (one less than the tokens of a block; here a row) are those of PAR.
    """
    return raster_tiny().replace(grid=(5, 8, 8), extras=7)
