"""LlamaGen: published sizes, and two that train on a CPU. NAR and PAR use the same table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arzoo.base.registry import register
from arzoo.models.llamagen.network import TransformerConfig

SIZES = {
    "b": (768, 12, 12),
    "m": (1024, 18, 16),
    "l": (1024, 24, 16),
    "xl": (1280, 36, 20),
    "xxl": (1536, 48, 24),
    "xxxl": (2560, 48, 40),
    "1b": (2048, 22, 32),
    "3b": (3200, 24, 32),
    "7b": (4096, 32, 32),
}
"""Width, depth and heads of the published sizes."""
CAPTIONS: dict[str, Any] = {"classes": 0, "text_width": 2048}
"""Settings of the text-conditional models: features of a T5 of width 2048 instead of classes."""


def register_sizes(
    family: str, title: str, sizes: Mapping[str, tuple[int, int, int]] = SIZES, **settings: Any
) -> None:
    """Register every published size of a family under `family_size`.

    Args:
        family: First part of the names.
        title: Description of the family.
        sizes: Width, depth and heads by name of the size.
        **settings: Settings that differ from the class-conditional model.
    """
    for size in sizes:
        _register(f"{family}_{size}", sizes[size], title, settings)


def _register(name: str, size: tuple[int, int, int], title: str, settings: dict[str, Any]) -> None:
    width, depth, heads = size

    def config() -> TransformerConfig:
        return TransformerConfig(width=width, depth=depth, heads=heads, **settings)

    blocks = depth + settings.get("axes", 1) - 1
    config.__doc__ = f"{title}: width {width}, {blocks} blocks, {heads} heads."
    register("backbone", name)(config)


register_sizes("llamagen", "LlamaGen, raster, 1000 classes")
register_sizes("llamagen_t2i", "LlamaGen, raster, captions", **CAPTIONS)


@register("backbone")
def raster_tiny() -> TransformerConfig:
    """Raster model for 8 x 8 tokens that trains on a CPU."""
    return TransformerConfig(
        width=256, depth=6, heads=4, vocab=2048, grid=(1, 8, 8), classes=198, hidden_multiple=64,
        zero_prefix_rotary=False, shared_dropout=True,
    )  # fmt: skip


@register("backbone")
def ordered_text_tiny() -> TransformerConfig:
    """Model of 32 ordered tokens that trains on a CPU, for captions of up to 16 tokens read by `minilm`."""
    return raster_tiny().replace(
        vocab=1000, grid=(1, 1, 32), classes=0, text_width=384, text_length=16, learned_positions=True
    )
