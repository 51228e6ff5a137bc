"""NAR: published sizes for pictures and clips, and three that train on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.models.llamagen.presets import CAPTIONS, raster_tiny, register_sizes

register_sizes("nar", "NAR, next-neighbor, 1000 classes", axes=2)
register_sizes("nar_t2i", "NAR, next-neighbor, captions", axes=2, **CAPTIONS)

CLIP_SIZES = {
    "s": (384, 12, 6),
    "b": (768, 12, 12),
    "l": (1024, 24, 16),
    "lp": (1280, 30, 20),
    "xl": (1280, 36, 20),
    "xxl": (1536, 48, 24),
}
"""Width, depth (up to the first readout) and heads of the models of clips, published as llama-abs."""
register_sizes(
    "nar_clip", "NAR, next-neighbor in clips of 4 x 16 x 16 tokens, 101 classes", CLIP_SIZES, axes=3,
    absolute_positions=True, grid=(4, 16, 16), vocab=8192, classes=101,
)  # fmt: skip


@register("backbone")
def nar_tiny() -> TransformerConfig:
    """Next-neighbor model of the same size as `raster_tiny`: one block fewer before the first readout."""
    return raster_tiny().replace(depth=5, axes=2)


@register("backbone")
def nar_text_tiny() -> TransformerConfig:
    """`nar_tiny` for captions of up to 16 tokens, read by the text encoder `minilm`."""
    return nar_tiny().replace(classes=0, text_width=384, text_length=16)


@register("backbone")
def nar_clip_tiny() -> TransformerConfig:
    """Next-neighbor model for clips of 5 x 8 x 8 tokens, of the size of `nar_tiny`: one readout, and axis, more."""
    return nar_tiny().replace(depth=4, axes=3, grid=(5, 8, 8))
