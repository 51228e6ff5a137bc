"""KL tokenizers: published sizes, and sizes that train on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.tokenizers.kl.network import KLTokenizerConfig


@register("tokenizer")
def kl_16() -> KLTokenizerConfig:
    """KL-16 of MAR: 256 x 256 to 16 x 16 vectors of 16 channels, 66M parameters."""
    return KLTokenizerConfig()


@register("tokenizer")
def kl_8_small() -> KLTokenizerConfig:
    """64 x 64 to 8 x 8 vectors of 8 channels; trains on a CPU."""
    return KLTokenizerConfig(
        image_size=64, widths=(48, 96, 160), decoder_widths=(56, 112, 176), encoder_blocks=1, decoder_blocks=1,
        channels=8, encoder_attention="none", decoder_attention="none", unshuffle=2, scale=1.0,
    )  # fmt: skip


@register("tokenizer")
def kl_4_small() -> KLTokenizerConfig:
    """64 x 64 to 16 x 16 vectors of 4 channels; trains on a CPU."""
    return kl_8_small().replace(widths=(48, 96), decoder_widths=(48, 96), channels=4)


@register("tokenizer")
def kl_4_micro() -> KLTokenizerConfig:
    """32 x 32 to 8 x 8 vectors of 4 channels, for experiments of a minute."""
    return kl_4_small().replace(image_size=32, widths=(16, 32), decoder_widths=(16, 32))
