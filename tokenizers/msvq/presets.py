"""Multi-scale VQ tokenizers: published sizes, and sizes that train on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.tokenizers.msvq.network import MultiScaleTokenizerConfig

PUBLISHED = {
    16: (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
    32: (1, 2, 3, 4, 6, 9, 13, 18, 24, 32),
    64: (1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64),
}
"""Published levels by the side of the finest one, of pictures of 256, 512 and 1024 pixels; the weights are the same."""


@register("tokenizer")
def msvq_16() -> MultiScaleTokenizerConfig:
    """VAR's multi-scale VQ: 256 x 256 to 10 levels of 1 to 16 x 16 codes, 109M parameters."""
    return MultiScaleTokenizerConfig()


@register("tokenizer")
def msvq_16_512() -> MultiScaleTokenizerConfig:
    """The same for 512 x 512: 10 levels of 1 to 32 x 32 codes."""
    return MultiScaleTokenizerConfig(image_size=512, levels=PUBLISHED[32])


@register("tokenizer")
def msvq_8_small() -> MultiScaleTokenizerConfig:
    """64 x 64 to 6 levels of 1 to 8 x 8 codes; trains on a CPU."""
    return MultiScaleTokenizerConfig(
        image_size=64, widths=(48, 96, 160), decoder_widths=(56, 112, 176), encoder_blocks=1, decoder_blocks=1,
        attention=False, unshuffle=2, levels=(1, 2, 3, 4, 6, 8), vocab=1024, code_channels=16,
    )  # fmt: skip


@register("tokenizer")
def msvq_4_micro() -> MultiScaleTokenizerConfig:
    """32 x 32 to 4 levels of 1 to 8 x 8 codes, for experiments of a minute."""
    return msvq_8_small().replace(
        image_size=32, widths=(16, 32), decoder_widths=(16, 32), levels=(1, 2, 4, 8), vocab=128
    )
