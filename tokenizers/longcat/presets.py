"""LongCat-Next's tokenizer: the published size, and sizes that train on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.tokenizers.longcat.network import LongCatConfig, PackedStackConfig


@register("tokenizer")
def longcat_next() -> LongCatConfig:
    """LongCat-Next: 1036 x 1036 to 37 x 37 tokens of 8 codes, or any size up to 3 million pixels."""
    return LongCatConfig(
        image_size=1036, least_pixels=56 * 56, most_pixels=1736 * 1736, patch=14, patch_frames=2,
        encoder=PackedStackConfig(width=1280, depth=32, heads=16, hidden=3420), full=(7, 15, 23, 31), bridge=3584,
        vocab=16384, code_channels=3584, codebooks=8, shared=True, decay=0.99,
        decoder=PackedStackConfig(width=1024, depth=32, heads=16, hidden=2730),
        clip_colors=True, row_by_row=True, scaled_twice=True,
    )  # fmt: skip


@register("tokenizer")
def longcat_8_small() -> LongCatConfig:
    """64 x 64 to 8 x 8 tokens of 4 codes, or any size up to 256 x 256; trains on a CPU."""
    return LongCatConfig(codebook_dropout=0.25, decay=0.99)


@register("tokenizer")
def longcat_8_micro() -> LongCatConfig:
    """As `longcat_8_small`, two blocks of 48 channels, for tests."""
    stack = PackedStackConfig(width=48, depth=2, heads=2, hidden=96)
    return LongCatConfig(
        encoder=stack, decoder=stack, full=(1,), bridge=48, vocab=64, code_channels=8, codebooks=2, decay=0.9
    )
