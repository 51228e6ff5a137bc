"""Convert published checkpoints of VQ tokenizers and back; missing and unused tensors are errors.

LlamaGen's VQ-16 and VQ-8 ("Autoregressive Model Beats Diffusion", 2024), which NAR and PAR use unchanged. Sizes are
read from shapes; only the side of the pictures is an argument, because weights of convolutions do not depend on it.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from arzoo.models.common.convert import Conversion, Join, StateDict
from arzoo.models.common.weight_file import read_weights
from arzoo.tokenizers.common.convert import AutoencoderSizes, filled, published
from arzoo.tokenizers.quantizers.base import EMPTY
from arzoo.tokenizers.vq.network import VQTokenizer, VQTokenizerConfig

EMA_FIRST = True
"""Published files are read with their averaged weights, as in the published evaluation."""

RECORD = "quantize.codebook_used"
"""Record of recently used codes: floats that start at 0 in published files, integers that start at `EMPTY` here."""

# Our name -> published name, applied in this order.
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


def published_name(name: str) -> str:
    """Published name of a weight of `VQTokenizer`."""
    name = re.sub(r"^(encoder\.levels\.\d+)\.resample\.", r"\1.downsample.", name)
    name = re.sub(r"^(decoder\.levels\.\d+)\.resample\.", r"\1.upsample.", name)
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def vq_table(config: VQTokenizerConfig) -> dict[str, Join]:
    """Published name of each weight, {"tokenizer.NAME": published name}."""
    with torch.device("meta"):
        names = config.build().state_dict()
    return {f"tokenizer.{name}": Join((published_name(name),)) for name in names}


def vq_config(state: StateDict, image_size: int = 256) -> VQTokenizerConfig:
    """Sizes of a published tokenizer.

    Args:
        state: Published tensors.
        image_size: Side of the pictures it was trained on.

    Raises:
        ArzooError: A tensor from which a size is read is missing.
    """
    sizes = AutoencoderSizes(state, "a VQ tokenizer of LlamaGen")
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
    """Whether the tensors have the names of LlamaGen's VQ tokenizers."""
    return "quantize.embedding.weight" in state and "encoder.conv_blocks.0.res.0.conv1.weight" in state


def from_llamagen_vq(state: StateDict, image_size: int = 256) -> Conversion:
    """Convert LlamaGen's VQ tokenizer.

    Args:
        state: Published tensors.
        image_size: Side of the pictures it was trained on.

    Raises:
        ArzooError: A tensor is missing, unused, or has a shape that does not fit the others.
    """
    config = vq_config(state, image_size)
    state = {name: value.to(torch.int32) if name == RECORD else value for name, value in state.items()}
    return filled("llamagen_vq", config, state, vq_table(config))


def to_llamagen_vq(tokenizer: VQTokenizer) -> dict[str, Tensor]:
    """Convert a tokenizer to the published layout. Empty entries of the record become uses of code 0, as published."""
    state = published(tokenizer, vq_table(tokenizer.config))
    return {**state, RECORD: state[RECORD].masked_fill(state[RECORD] == EMPTY, 0).float()}


def load_llamagen_vq(path: str | Path, image_size: int = 256) -> VQTokenizer:
    """Load a published file, for example `vq_ds16_c2i.pt`.

    Args:
        path: The file; its averaged weights are used if it has them.
        image_size: Side of the pictures it was trained on.

    Raises:
        ArzooError: The file cannot be read without running code, or does not hold the weights of such a tokenizer.
    """
    tokenizer = from_llamagen_vq(read_weights(path, ema_first=EMA_FIRST).state, image_size).parts["tokenizer"]
    assert isinstance(tokenizer, VQTokenizer)
    return tokenizer
