"""OmniTokenizer: the released sizes, and sizes that train on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.tokenizers.omnitok.network import OmniTokenizerConfig


@register("tokenizer")
def omnitok() -> OmniTokenizerConfig:
    """OmniTokenizer: 17 x 256 x 256 to 5 x 32 x 32 of 8192 codes, 52M parameters."""
    return OmniTokenizerConfig()


@register("tokenizer")
def omnitok_vectors() -> OmniTokenizerConfig:
    """The same with vectors of 8 channels (VAE)."""
    return OmniTokenizerConfig(vocab=0)


@register("tokenizer")
def omnitok_small() -> OmniTokenizerConfig:
    """17 x 64 x 64 to 5 x 8 x 8 of 1024 codes; trains on a CPU. Its convolutions do not mix frames: it is causal.

    It sees how bright a patch is, as clips of games have flat colors.
    """
    return OmniTokenizerConfig(
        image_size=64, width=256, heads=4, hidden=680, encoder_blocks="t", decoder_blocks="tt", time_blocks=1,
        vocab=1024, viewed=False, normed_patches=False,
    )  # fmt: skip


@register("tokenizer")
def omnitok_micro() -> OmniTokenizerConfig:
    """5 x 16 x 16 to 2 x 4 x 4 of 64 codes, for experiments of a minute."""
    return omnitok_small().replace(
        image_size=16, frames=5, patch=4, width=32, heads=2, head_width=16, hidden=85, time_blocks=1, window=2,
        encoder_blocks="t", decoder_blocks="t", vocab=64, channels=4,
    )  # fmt: skip
