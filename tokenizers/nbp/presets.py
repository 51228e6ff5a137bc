"""NBP's tokenizer: the published size, and sizes that train on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.tokenizers.common.causal import CausalStyle
from arzoo.tokenizers.nbp.network import NBPTokenizerConfig


@register("tokenizer")
def nbp_clip() -> NBPTokenizerConfig:
    """NBP's tokenizer: 17 x 128 x 128 to 5 x 16 x 16 codes, 370M parameters."""
    return NBPTokenizerConfig()


@register("tokenizer")
def clip_small() -> NBPTokenizerConfig:
    """17 x 64 x 64 to 5 x 8 x 8 codes of 1000, 2.4M parameters; trains on a CPU, in bfloat16 about twice as fast."""
    return NBPTokenizerConfig(
        image_size=64, widths=(32, 48, 64), blocks=1, middle=1, strides=((2, 1, 1), (2, 2, 2)), unshuffle=4,
        levels=(8, 5, 5, 5),
        # With 32 groups a channel would be normalized alone, and how bright a frame is would be lost.
        style=CausalStyle(space_padding="zeros", learned_beta=False, groups=4),
    )  # fmt: skip


@register("tokenizer")
def clip_micro() -> NBPTokenizerConfig:
    """5 x 32 x 32 to 2 x 4 x 4 codes of 240, for experiments of a minute."""
    return clip_small().replace(image_size=32, frames=5, widths=(16, 16, 32), middle=0, levels=(8, 6, 5))
