"""Published checkpoints of VQ tokenizers into ours and back: strict, nothing lost and nothing unused.

LlamaGen's VQ-16 and VQ-8 ("Autoregressive Model Beats Diffusion", 2024), which NAR and PAR use unchanged. Sizes are
read from shapes; only the side of the pictures is an argument, because a convolutional network does not have one.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.models.common.convert import Conversion, Join, StateDict, fill, merge, split
from arzoo.models.common.weight_file import read_weights
from arzoo.tokenizers.quantizers.base import EMPTY
from arzoo.tokenizers.vq.network import VQTokenizer, VQTokenizerConfig

EMA_FIRST = True
"""Of published files the averaged weights are taken, as in their evaluation."""

RECORD = "quantize.codebook_used"
"""Record of recently used codes: floats that start at zero there, integers that start at "none" here."""

# Ours -> theirs, applied in this order.
_NAMES = (
    (r"\.levels\.", ".conv_blocks."),
    (r"\.blocks\.", ".res."),
    (r"\.attention\.", ".attn."),
    (r"\.middle\.", ".mid."),
    (r"\.shortcut\.", ".nin_shortcut."),
    (r"\.proj\.", ".proj_out."),
    (r"^quantizer\.recent$", RECORD),
    (r"^quantizer\.", "quantize."),
    (r"^to_code\.", "quant_conv."),
    (r"^from_code\.", "post_quant_conv."),
)


class Sizes:
    """Reads sizes off the shapes of published tensors.

    Args:
        state: Published tensors.
        what: What they should be, for the messages.
    """

    def __init__(self, state: StateDict, what: str) -> None:
        self.state, self.what = state, what

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor.

        Raises:
            ArzooError: There is no such tensor.
        """
        if name not in self.state:
            raise ArzooError(f"not {self.what}: tensor {name!r} is missing")
        return tuple(self.state[name].shape)

    def count(self, prefix: str) -> int:
        """How many modules are numbered behind a prefix.

        Raises:
            ArzooError: There is none, or a number is left out.
        """
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
        found = {int(m[1]) for key in self.state if (m := pattern.match(key))}
        if found != set(range(len(found))) or not found:
            raise ArzooError(f"not {self.what}: tensors {prefix}.* are missing or badly numbered")
        return len(found)

    def widths(self, levels: str, blocks: str) -> tuple[int, ...]:
        """Channels of every level, in the order of their numbers."""
        return tuple(
            self.shape(f"{levels}.{i}.{blocks}.0.conv1.weight")[0] for i in range(self.count(levels))
        )

    def unshuffle(self) -> int:
        """Side of the patches that the first convolution sees."""
        return math.isqrt(self.shape("encoder.conv_in.weight")[1] // 3)


def published_name(name: str) -> str:
    """What a weight of `VQTokenizer` is called in published files."""
    name = re.sub(r"^(encoder\.levels\.\d+)\.resample\.", r"\1.downsample.", name)
    name = re.sub(r"^(decoder\.levels\.\d+)\.resample\.", r"\1.upsample.", name)
    for ours, theirs in _NAMES:
        name = re.sub(ours, theirs, name)
    return name


def vq_table(config: VQTokenizerConfig) -> dict[str, Join]:
    """What each weight is made of, {"tokenizer.NAME": published name}."""
    with torch.device("meta"):
        names = config.build().state_dict()
    return {f"tokenizer.{name}": Join((published_name(name),)) for name in names}


def vq_config(state: StateDict, image_size: int = 256) -> VQTokenizerConfig:
    """Sizes of a published tokenizer.

    Args:
        state: Published tensors.
        image_size: Side of the pictures it was trained on.

    Raises:
        ArzooError: Tensors that say the sizes are missing.
    """
    sizes = Sizes(state, "a VQ tokenizer of LlamaGen")
    encoder = sizes.widths("encoder.conv_blocks", "res")
    decoder = sizes.widths("decoder.conv_blocks", "res")[::-1]
    vocab, code_channels = sizes.shape("quantize.embedding.weight")
    return VQTokenizerConfig(
        image_size=image_size,
        widths=encoder,
        decoder_widths=() if decoder == encoder else decoder,
        encoder_blocks=sizes.count("encoder.conv_blocks.0.res"),
        decoder_blocks=sizes.count("decoder.conv_blocks.0.res"),
        latent=sizes.shape("encoder.conv_out.weight")[0],
        attention=any(".attn." in key for key in state),
        unshuffle=sizes.unshuffle(),
        vocab=vocab,
        code_channels=code_channels,
    )


def is_llamagen_vq(state: StateDict) -> bool:
    """Whether tensors are named like those of LlamaGen's VQ tokenizers."""
    return "quantize.embedding.weight" in state and "encoder.conv_blocks.0.res.0.conv1.weight" in state


def from_llamagen_vq(state: StateDict, image_size: int = 256) -> Conversion:
    """LlamaGen's VQ tokenizer.

    Args:
        state: Published tensors.
        image_size: Side of the pictures it was trained on.

    Raises:
        ArzooError: A tensor is missing, left over, or of a shape that does not fit the others.
    """
    config = vq_config(state, image_size)
    weights = merge(state, vq_table(config))
    weights["tokenizer.quantizer.recent"] = state[RECORD].to(torch.int32)
    with torch.device("meta"):
        tokenizer = config.build()
    return Conversion("llamagen_vq", fill({"tokenizer": tokenizer}, weights))


def to_llamagen_vq(tokenizer: VQTokenizer) -> dict[str, Tensor]:
    """The published layout of a tokenizer. Empty places of the record become uses of code 0, as there."""
    ours = {f"tokenizer.{name}": value for name, value in tokenizer.state_dict().items()}
    state = split(ours, vq_table(tokenizer.config))
    return {**state, RECORD: state[RECORD].masked_fill(state[RECORD] == EMPTY, 0).float()}


def load_llamagen_vq(path: str | Path, image_size: int = 256) -> VQTokenizer:
    """Read a published file, `vq_ds16_c2i.pt` for example.

    Args:
        path: The file; averaged weights are taken if it has them.
        image_size: Side of the pictures it was trained on.

    Raises:
        ArzooError: The file cannot be read without running code, holds no weights, or not those of such a tokenizer.
    """
    tokenizer = from_llamagen_vq(read_weights(path, ema_first=EMA_FIRST).state, image_size).parts["tokenizer"]
    assert isinstance(tokenizer, VQTokenizer)
    return tokenizer
