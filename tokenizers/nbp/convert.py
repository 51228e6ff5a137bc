"""Convert published checkpoints of NBP's tokenizer and back; missing and unused tensors are errors.

"Next Block Prediction", 2025: `magvit2_ucf.pt` and `magvit2_k600.pt`. Widths and strides are read from shapes; the
size of the clips and the levels of the quantization are arguments, because no weight gives them.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.models.common.convert import Conversion, Join, StateDict
from arzoo.models.common.sizes import Sizes
from arzoo.tokenizers.common.causal import Size
from arzoo.tokenizers.common.convert import filled, published
from arzoo.tokenizers.nbp.network import NBPTokenizer, NBPTokenizerConfig

LEVELS = (8, 8, 8, 5, 5, 5)
"""Levels of the published quantization."""

_FACTORS: dict[int, Size] = {8: (2, 2, 2), 4: (1, 2, 2), 2: (2, 1, 1)}
"""Factors of an upsampling by how many times it multiplies the channels."""

# Our name -> published name, applied in this order.
_NAMES = (
    (r"^(encoder|decoder)\.", r"\1_layers."),
    (r"\.branch\.", ".fn."),
    (r"\.shortcut\.", ".residual_fn.0.conv."),
)


def nbp_tokenizer_table(config: NBPTokenizerConfig) -> dict[str, Join]:
    """Published name of each weight, {"tokenizer.NAME": published name}."""
    with torch.device("meta"):
        names = config.build().state_dict()

    def published_name(name: str) -> str:
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        return name

    return {f"tokenizer.{name}": Join((published_name(name),)) for name in names}


class _Levels(NamedTuple):
    """Sizes of the levels of an encoder or a decoder, in the order of execution.

    Attributes:
        widths: Channels of each level.
        units: Residual units of each level.
        growth: How many times the convolution after each level but the last multiplies the channels.
    """

    widths: list[int]
    units: list[int]
    growth: list[int]


def _levels(sizes: Sizes, layers: str) -> _Levels:
    """Read the levels of `encoder_layers` or `decoder_layers`."""
    widths: list[int] = []
    units: list[int] = []
    growth: list[int] = []
    numbers = {int(m[1]) for name in sizes.state if (m := re.match(rf"{layers}\.(\d+)\.", name))}
    for number in sorted(numbers - {0}):
        unit, plain = f"{layers}.{number}.fn.2.conv.weight", f"{layers}.{number}.conv.weight"
        if unit in sizes.state:
            if len(growth) == len(units):
                widths.append(sizes.shape(unit, 5)[0])
                units.append(0)
            units[-1] += 1
        elif plain in sizes.state:
            outer, inner = sizes.shape(plain, 5)[:2]
            growth.append(outer // inner)
    if not units:
        raise ArzooError(f"not {sizes.kind}: {layers} has no residual units")
    # A decoder's last convolution, after its last level, makes pixels.
    return _Levels(widths, units, growth[: len(units) - 1])


def nbp_tokenizer_config(
    state: StateDict, image_size: int = 128, frames: int = 17, levels: tuple[int, ...] = LEVELS
) -> NBPTokenizerConfig:
    """Read the sizes of a published tokenizer. Arguments and errors as in `from_nbp_tokenizer`."""
    sizes = Sizes(state, "NBP's tokenizer")
    encoder, decoder = _levels(sizes, "encoder_layers"), _levels(sizes, "decoder_layers")
    channels = sizes.shape("decoder_layers.0.conv.weight", 5)[1]
    if channels != len(levels):
        raise ArzooError(
            f"the codes of this tokenizer have {channels} channels, and levels={levels} are for {len(levels)}: give "
            "the levels it was trained with, for example --set levels=[8,8,8,5,5,5] (in Python: levels=)"
        )
    unknown = sorted(set(decoder.growth) - _FACTORS.keys())
    if unknown:
        raise ArzooError(
            f"not {sizes.kind}: an upsampling multiplies the channels by {unknown[0]}; known are "
            f"{', '.join(map(str, _FACTORS))}"
        )
    widths, decoder_widths = tuple(encoder.widths), tuple(decoder.widths[::-1])
    return NBPTokenizerConfig(
        image_size=image_size,
        frames=frames,
        widths=widths,
        decoder_widths=() if decoder_widths == widths else decoder_widths,
        blocks=encoder.units[0],
        middle=encoder.units[-1] - encoder.units[0],
        strides=tuple(_FACTORS[times] for times in decoder.growth[::-1]),
        unshuffle=math.isqrt(sizes.shape("encoder_layers.0.conv.weight", 5)[1] // 3),
        levels=levels,
    )


def is_nbp_tokenizer(state: StateDict) -> bool:
    """Whether the tensors have the names of NBP's tokenizer."""
    return {"encoder_layers.0.conv.weight", "encoder_layers.1.fn.1.beta"} <= state.keys()


def from_nbp_tokenizer(
    state: StateDict, image_size: int = 128, frames: int = 17, levels: tuple[int, ...] = LEVELS
) -> Conversion:
    """Convert NBP's tokenizer.

    Args:
        state: Published tensors.
        image_size: Side of the frames it was trained on.
        frames: Frames of the clips it was trained on.
        levels: Levels of every channel of a code.

    Raises:
        ArzooError: A tensor is missing, unused, or has a shape that does not fit the others or the arguments.
    """
    config = nbp_tokenizer_config(state, image_size, frames, levels)
    return filled("nbp_tokenizer", config, state, nbp_tokenizer_table(config))


def to_nbp_tokenizer(tokenizer: NBPTokenizer) -> dict[str, Tensor]:
    """Convert a tokenizer to the published layout."""
    return published(tokenizer, nbp_tokenizer_table(tokenizer.config))
