"""Convert the published multi-scale VQ tokenizer of VAR and back; missing and unused tensors are errors.

"Visual Autoregressive Modeling", 2024. Sizes are read from shapes; the side of the pictures and the levels are
arguments, because the same weights are used with several.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.models.common.convert import Conversion, Join, StateDict
from arzoo.tokenizers.common.convert import AutoencoderSizes, filled, ldm_name, published
from arzoo.tokenizers.msvq.network import MultiScaleTokenizer, MultiScaleTokenizerConfig
from arzoo.tokenizers.msvq.presets import PUBLISHED

USES = "quantize.ema_vocab_hit_SV"
"""Published average of the uses of codes, by level; the conversion drops it."""
FUSED = ".qkv."
"""Queries, keys and values of the published attention are one tensor, ours are three."""

OTHERS = {
    "to_code.": "quant_conv.",
    "from_code.": "post_quant_conv.",
    "quantizer.convolutions.": "quantize.quant_resi.qresi_ls.",
    "quantizer.": "quantize.",
}
"""Beginnings of published names beside encoder and decoder, by ours."""


def msvq_table(config: MultiScaleTokenizerConfig) -> dict[str, Join]:
    """Published name of each weight, {"tokenizer.NAME": published name}, with attention as `_apart` has it."""
    with torch.device("meta"):
        names = [name for name in config.build().state_dict() if name != "quantizer.recent"]
    levels = len(config.widths)
    return {f"tokenizer.{name}": Join((ldm_name(name, levels, OTHERS),)) for name in names}


def _apart(state: StateDict) -> dict[str, Tensor]:
    """Weights with queries, keys and values of attention apart, and without the average of uses."""
    apart = dict[str, Tensor]()
    for name, value in state.items():
        if FUSED in name:
            parts = zip("qkv", value.chunk(3), strict=True)
            apart |= {name.replace(FUSED, f".{part}."): share for part, share in parts}
        elif name != USES:
            apart[name] = value
    return apart


def msvq_config(
    state: StateDict, image_size: int = 256, levels: tuple[int, ...] = (), cosine: bool = False
) -> MultiScaleTokenizerConfig:
    """Read the sizes of a published tokenizer. Arguments and errors as in `from_msvq`."""
    sizes = AutoencoderSizes(state, "a multi-scale VQ tokenizer of VAR")
    encoder, decoder = sizes.widths("encoder.down", "block"), sizes.widths("decoder.up", "block")
    vocab, code_channels = sizes.shape("quantize.embedding.weight", 2)
    side = image_size // (sizes.unshuffle() * 2 ** (len(encoder) - 1))
    if not levels and side not in PUBLISHED:
        raise ArzooError(
            f"pictures of {image_size} pixels have a grid of {side} x {side} tokens here, for which no levels are "
            f"published (those for {', '.join(map(str, PUBLISHED))} are): give them, from 1 to {side}, with "
            f"--set levels=[1,2,{side}] (in Python: levels=)"
        )
    return MultiScaleTokenizerConfig(
        image_size=image_size,
        widths=encoder,
        decoder_widths=() if decoder == encoder else decoder,
        encoder_blocks=sizes.count("encoder.down.0.block"),
        decoder_blocks=sizes.count("decoder.up.0.block"),
        attention=any(".attn" in key for key in state),
        unshuffle=sizes.unshuffle(),
        levels=tuple(levels) or PUBLISHED[side],
        vocab=vocab,
        code_channels=code_channels,
        convolutions=sum(
            bool(re.fullmatch(r"quantize\.quant_resi\.qresi_ls\.\d+\.weight", key)) for key in state
        ),
        cosine=cosine,
    )


def is_msvq(state: StateDict) -> bool:
    """Whether the tensors have the names of VAR's multi-scale VQ tokenizer."""
    return {"quantize.embedding.weight", "quantize.quant_resi.qresi_ls.0.weight"} <= state.keys()


def from_msvq(
    state: StateDict, image_size: int = 256, levels: tuple[int, ...] = (), cosine: bool = False
) -> Conversion:
    """Convert VAR's multi-scale VQ tokenizer. The average of the uses of codes is dropped.

    Args:
        state: Published tensors.
        image_size: Side of the pictures.
        levels: Sides of the levels; by default the published ones of pictures of 256, 512 or 1024 pixels.
        cosine: It was trained to take codes by their direction (`using_znorm`); no released one was.

    Raises:
        ArzooError: A tensor is missing, unused, or has a shape that does not fit the others, or the levels do not end
            at the grid of such pictures.
    """
    config = msvq_config(state, image_size, levels, cosine)
    return filled("msvq", config, _apart(state), msvq_table(config))


def to_msvq(tokenizer: MultiScaleTokenizer) -> dict[str, Tensor]:
    """Convert a tokenizer to the published layout, without the average of the uses of codes."""
    state = published(tokenizer, msvq_table(tokenizer.config))
    parts = re.compile(r"(.*\.attn(?:_1|\.\d+))\.([qkv])\.(weight|bias)")
    whole = dict[str, Tensor]()
    for name, value in state.items():
        match = parts.fullmatch(name)
        if match is None:
            whole[name] = value
        elif match[2] == "q":
            shares = [state[f"{match[1]}.{part}.{match[3]}"] for part in "qkv"]
            whole[f"{match[1]}{FUSED}{match[3]}"] = torch.cat(shares)
    return whole
