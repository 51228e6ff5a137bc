"""LARP: the published size that NAR uses, and one that trains on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.tokenizers.common.transformer import StackConfig
from arzoo.tokenizers.larp.network import LARPConfig


@register("tokenizer")
def larp_l_long() -> LARPConfig:
    """LARP-L-Long: 16 frames of 128 x 128 to 1024 of 8192 codes, 172M parameters without its prior."""
    return LARPConfig()


@register("tokenizer")
def larp_tiny() -> LARPConfig:
    """16 frames of 64 x 64 to 256 codes; trains on a CPU."""
    stack = StackConfig(width=192, depth=4, heads=3)
    return LARPConfig(image_size=64, encoder=stack, decoder=stack, grid=(4, 8, 8), vocab=1024)
