"""Helpers of converters of tokenizers: read sizes, load published weights into a new tokenizer, and convert back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from arzoo.base.config import Config
from arzoo.models.common.convert import Conversion, Join, StateDict, fill, merge, split
from arzoo.models.common.sizes import Sizes
from arzoo.tokenizers.quantizers.vq import VectorQuantizer

# Our name -> name of latent diffusion's autoencoders, applied in this order; without attention the second block of the
# middle is our number 1.
_NAMES = (
    (r"^encoder\.levels\.", "encoder.down."),
    (r"^(encoder\..*)\.resample\.", r"\1.downsample."),
    (r"^(decoder\..*)\.resample\.", r"\1.upsample."),
    (r"\.middle\.0\.", ".mid.block_1."),
    (r"\.middle\.1\.(norm|q|k|v|proj)\.", r".mid.attn_1.\1."),
    (r"\.middle\.[12]\.", ".mid.block_2."),
    (r"\.blocks\.", ".block."),
    (r"\.attention\.", ".attn."),
    (r"\.shortcut\.", ".nin_shortcut."),
    (r"\.proj\.", ".proj_out."),
)


def ldm_name(name: str, levels: int, others: Mapping[str, str]) -> str:
    """Name of a weight in autoencoders that are named as those of latent diffusion.

    Args:
        name: Our name.
        levels: Levels of the decoder. Theirs are numbered from the finest, ours in the order of execution.
        others: Published beginnings of names of what is neither encoder nor decoder, by ours.
    """
    name = re.sub(r"^decoder\.levels\.(\d+)", lambda m: f"decoder.up.{levels - 1 - int(m[1])}", name)
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    for ours, theirs in others.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


class AutoencoderSizes(Sizes):
    """Reader of the sizes of a convolutional autoencoder."""

    def widths(self, levels: str, blocks: str) -> tuple[int, ...]:
        """Channels of every level, in the order of their numbers."""
        return tuple(
            self.shape(f"{levels}.{i}.{blocks}.0.conv1.weight")[0] for i in range(self.count(levels))
        )

    def unshuffle(self) -> int:
        """Side of the patches that the first convolution sees."""
        return math.isqrt(self.shape("encoder.conv_in.weight")[1] // 3)


def filled(
    source: str, config: Config, state: StateDict, table: Mapping[str, Join], computed: bool = False
) -> Conversion:
    """Build a tokenizer and load published weights into it.

    Args:
        source: Name of the source.
        config: Settings of the tokenizer.
        state: Published tensors.
        table: Published tensors of each of our weights; the record of used codes starts empty if it is not published.
        computed: Whether it has tensors that are computed when it is built, and not among its weights.

    Raises:
        ArzooError: A tensor is missing, unused, or has a shape that does not fit.
    """
    weights = merge(state, table)
    with torch.device("cpu" if computed else "meta"):
        tokenizer = config.build()
    if "quantizer.recent" in tokenizer.state_dict():
        weights.setdefault("tokenizer.quantizer.recent", VectorQuantizer(1, 1).recent)
    return Conversion(source, fill({"tokenizer": tokenizer}, weights))


def published(tokenizer: nn.Module, table: Mapping[str, Join]) -> dict[str, Tensor]:
    """Convert the weights of a tokenizer to the published layout."""
    return split({f"tokenizer.{name}": value for name, value in tokenizer.state_dict().items()}, table)
