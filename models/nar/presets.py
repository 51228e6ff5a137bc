"""NAR: published sizes, and two that train on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.models.llamagen.presets import CAPTIONS, raster_tiny, register_sizes

register_sizes("nar", "NAR, next-neighbor, 1000 classes", axes=2)
register_sizes("nar_t2i", "NAR, next-neighbor, captions", axes=2, **CAPTIONS)


@register("backbone")
def nar_tiny() -> TransformerConfig:
    """Next-neighbor model of the same size as `raster_tiny`: one block fewer before the first readout."""
    return raster_tiny().replace(depth=5, axes=2)


@register("backbone")
def nar_text_tiny() -> TransformerConfig:
    """`nar_tiny` for captions of up to 16 tokens, read by the text encoder `minilm`."""
    return nar_tiny().replace(classes=0, text_width=384, text_length=16)
