"""KARL: published sizes over both base autoencoders."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.tokenizers.common.transformer import StackConfig
from arzoo.tokenizers.karl.network import KarlConfig
from arzoo.tokenizers.kl.network import KLTokenizerConfig
from arzoo.tokenizers.vq.maskgit import MaskGITConfig

_SIZES = {"tiny": (512, 8, 8), "small": (1024, 8, 8), "base": (768, 12, 12), "semilarge": (1024, 16, 16)}


def _published(size: str, base: MaskGITConfig | KLTokenizerConfig) -> KarlConfig:
    width, depth, heads = _SIZES[size]
    stack = StackConfig(width=width, depth=depth, heads=heads)
    return KarlConfig(base=base, encoder=stack, decoder=stack)


@register("tokenizer")
def karl_tiny() -> KarlConfig:
    """KARL tiny over MAGE's VQGAN: 256 x 256 to at most 256 tokens of 4096 codes, 112M parameters."""
    return _published("tiny", MaskGITConfig())


@register("tokenizer")
def karl_small() -> KarlConfig:
    """KARL small over MAGE's VQGAN, the size of the released weights; 271M parameters."""
    return _published("small", MaskGITConfig())


@register("tokenizer")
def karl_base() -> KarlConfig:
    """KARL base over MAGE's VQGAN, 235M parameters."""
    return _published("base", MaskGITConfig())


@register("tokenizer")
def karl_semilarge() -> KarlConfig:
    """KARL semilarge over MAGE's VQGAN, 472M parameters."""
    return _published("semilarge", MaskGITConfig())


@register("tokenizer")
def karl_small_kl() -> KarlConfig:
    """KARL small over KL-16 of MAR, 281M parameters."""
    return _published("small", KLTokenizerConfig())


@register("tokenizer")
def karl_small_kl_vectors() -> KarlConfig:
    """KARL small over KL-16 of MAR, with vectors of 12 channels instead of codes."""
    return karl_small_kl().replace(vocab=0)


@register("tokenizer")
def karl_kl_small() -> KarlConfig:
    """64 x 64 pixels over a KL autoencoder of factor 8 to at most 64 tokens of 1024 codes; trains on a CPU."""
    return KarlConfig(
        image_size=64, base=KLTokenizerConfig(image_size=64, widths=(48, 96, 160), unshuffle=2, channels=8),
        encoder=StackConfig(width=128, depth=5, heads=4), decoder=StackConfig(width=128, depth=6, heads=4),
        slots=64, table_slots=92, table_side=8, vocab=1024, halting_width=128, exact_base=True,
        initial_deviation=0.06, quality=0.09, coarsest=0.2,
    )  # fmt: skip


@register("tokenizer")
def karl_small_vectors() -> KarlConfig:
    """KARL small over MAGE's VQGAN, with vectors of 12 channels instead of codes."""
    return karl_small().replace(vocab=0)
