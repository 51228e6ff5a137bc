"""LongCat-Next in small: a model that trains on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.longcat.network import LongCatConfig


@register("backbone")
def longcat_tiny() -> LongCatConfig:
    """Model of 8 x 8 tokens of residual codes, or any other size, and captions of 48 bytes; trains on a CPU."""
    return LongCatConfig(
        width=256, depth=6, heads=4, hidden=704, vocab=512, codebooks=4, text_length=48, rows=32, inputs=1280,
        shared_dropout=True,
    )  # fmt: skip
