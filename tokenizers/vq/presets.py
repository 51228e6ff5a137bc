"""VQ tokenizers: published sizes, and sizes that train on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.tokenizers.vq.network import VQTokenizerConfig


@register("tokenizer")
def vq_16() -> VQTokenizerConfig:
    """LlamaGen's VQ-16: 256 x 256 to 16 x 16 codes, 72M parameters."""
    return VQTokenizerConfig()


@register("tokenizer")
def vq_8() -> VQTokenizerConfig:
    """LlamaGen's VQ-8: 256 x 256 to 32 x 32 codes, 70M parameters."""
    return VQTokenizerConfig(widths=(128, 256, 256, 512))


@register("tokenizer")
def vq_8_small() -> VQTokenizerConfig:
    """64 x 64 to 8 x 8 codes; trains on a CPU."""
    return VQTokenizerConfig(
        image_size=64, widths=(48, 96, 160), decoder_widths=(56, 112, 176), encoder_blocks=1, decoder_blocks=1,
        latent=128, attention=False, unshuffle=2, vocab=1024,
    )  # fmt: skip


@register("tokenizer")
def rq_8_small() -> VQTokenizerConfig:
    """64 x 64 to 8 x 8 positions of 4 residual codes; trains on a CPU."""
    return vq_8_small().replace(codebooks=4, code_channels=32)


@register("tokenizer")
def vq_4_small() -> VQTokenizerConfig:
    """64 x 64 to 16 x 16 codes; trains on a CPU."""
    return vq_8_small().replace(widths=(48, 96), decoder_widths=(48, 96), vocab=512)


@register("tokenizer")
def vq_4_micro() -> VQTokenizerConfig:
    """32 x 32 to 8 x 8 codes, for experiments of a minute."""
    return vq_4_small().replace(image_size=32, widths=(16, 32), decoder_widths=(16, 32), latent=32, vocab=128)
