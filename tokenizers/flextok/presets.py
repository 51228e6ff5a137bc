"""FlexTok: published sizes over a KL autoencoder, and a size that trains on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.tokenizers.flextok.network import FlexTokConfig, StackConfig
from arzoo.tokenizers.kl.network import KLTokenizerConfig


def _autoencoder() -> KLTokenizerConfig:
    """The published autoencoder; the scale of its latents is in the configuration of a checkpoint."""
    return KLTokenizerConfig(
        widths=(128, 256, 512, 512), encoder_blocks=2, decoder_blocks=3, channels=16,
        encoder_attention="middle", decoder_attention="middle", scale=1.0,
    )  # fmt: skip


def _published(encoder: int, decoder: int) -> FlexTokConfig:
    return FlexTokConfig(
        base=_autoencoder(),
        encoder=StackConfig(width=64 * encoder, depth=encoder),
        decoder=StackConfig(width=64 * decoder, depth=decoder),
    )


@register("tokenizer")
def flextok_d12_d12() -> FlexTokConfig:
    """FlexTok d12-d12: 256 x 256 to 1 to 256 tokens of 64000 codes, 342M parameters with its autoencoder."""
    return _published(12, 12)


@register("tokenizer")
def flextok_d18_d18() -> FlexTokConfig:
    """FlexTok d18-d18, 950M parameters."""
    return _published(18, 18)


@register("tokenizer")
def flextok_d18_d28() -> FlexTokConfig:
    """FlexTok d18-d28, 2541M parameters."""
    return _published(18, 28)


@register("tokenizer")
def flextok_kl_small() -> FlexTokConfig:
    """64 x 64 pixels over a KL autoencoder of factor 8 to 1 to 32 tokens of 1000 codes; trains on a CPU."""
    return FlexTokConfig(
        image_size=64, base=KLTokenizerConfig(image_size=64, widths=(48, 96, 160), unshuffle=2, channels=8),
        patch=1, encoder=StackConfig(width=128, depth=3, heads=4), decoder=StackConfig(width=128, depth=4, heads=4),
        registers=32, levels=(8, 5, 5, 5), null_probability=0.1, steps=10, guidance=2.0, projected=False,
    )  # fmt: skip


@register("tokenizer")
def flextok_8_small() -> FlexTokConfig:
    """64 x 64 pixels in patches of 8 to 1 to 32 tokens of 1000 codes; trains on a CPU."""
    return FlexTokConfig(
        image_size=64, patch=8, encoder=StackConfig(width=128, depth=3, heads=2),
        decoder=StackConfig(width=192, depth=6, heads=3), registers=32, levels=(8, 5, 5, 5),
    )  # fmt: skip
