"""Convert published TiTok and One-D-Piece checkpoints and back; missing and unused tensors are errors.

Sizes are read from shapes. Weights say neither the number of attention heads nor whether codes lie on the unit sphere:
heads follow from the width, the unit sphere from the layout, which the names of the tensors show.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from arzoo.models.common.convert import Conversion, Join, StateDict
from arzoo.models.common.sizes import Sizes
from arzoo.tokenizers.common.convert import filled, published
from arzoo.tokenizers.common.transformer import StackConfig
from arzoo.tokenizers.titok.network import TiTokConfig
from arzoo.tokenizers.titok.tokenizer import TiTok
from arzoo.tokenizers.vq.maskgit import MaskGITConfig

_HEADS = {512: 8, 768: 12, 1024: 16}
"""Attention heads of the published widths."""

_NAMES = (
    (r"^encoder\.patches\.", "encoder.patch_embed."),
    (r"^encoder\.slots$", "latent_tokens"),
    (r"\.first$", ".class_embedding"),
    (r"\.query$", ".mask_token"),
    (r"\.slot_positions$", ".latent_token_positional_embedding"),
    (r"\.positions$", ".positional_embedding"),
    (r"^decoder\.input\.", "decoder.decoder_embed."),
    (r"^(encoder|decoder)\.norm_in\.", r"\1.ln_pre."),
    (r"^(encoder|decoder)\.norm_out\.", r"\1.ln_post."),
    (r"^encoder\.output\.", "encoder.conv_out."),
    (r"^decoder\.head1\.", "decoder.ffn.0."),
    (r"^quantizer\.", "quantize."),
    (r"^pixel_codes\.", "pixel_quantize.embedding."),
    (r"^(encoder|decoder)\.blocks\.", r"\1.transformer."),
    (r"(\.transformer\.\d+)\.norm1\.", r"\1.ln_1."),
    (r"(\.transformer\.\d+)\.norm2\.", r"\1.ln_2."),
    (r"\.qkv\.(weight|bias)$", r".attn.in_proj_\1"),
    (r"\.proj\.", ".attn.out_proj."),
    (r"(\.transformer\.\d+)\.up\.", r"\1.mlp.c_fc."),
    (r"(\.transformer\.\d+)\.down\.", r"\1.mlp.c_proj."),
    (r"^pixel_decoder\.middle\.", "pixel_decoder.mid."),
    (r"^pixel_decoder\.levels\.(\d+)\.", r"pixel_decoder.up.\1.block."),
    (r"^pixel_decoder\.upsamples\.(\d+)\.conv\.", r"pixel_decoder.up.\1.upsample_conv."),
    (r"\.shortcut\.", ".nin_shortcut."),
)


def is_titok(state: StateDict) -> bool:
    """Whether the tensors have the names of TiTok."""
    return "latent_tokens" in state and "encoder.patch_embed.weight" in state


def titok_table(config: TiTokConfig) -> dict[str, Join]:
    """Published name of each weight, {"tokenizer.NAME": published name}; the record of used codes is not published."""
    with torch.device("meta"):
        names = [name for name in TiTok(config).state_dict() if name != "quantizer.recent"]
    last = len(config.pixels.widths) - 1
    head2 = "decoder.ffn.2." if config.legacy else "decoder.conv_out."

    def published_name(name: str) -> str:
        # Published decoders number their levels from the finest, ours in the order of execution.
        name = re.sub(
            r"^pixel_decoder\.(levels|upsamples)\.(\d+)",
            lambda m: f"pixel_decoder.{m[1]}.{last - int(m[2])}",
            name,
        )
        for pattern, replacement in ((r"^decoder\.head2\.", head2), *_NAMES):
            name = re.sub(pattern, replacement, name)
        return name

    return {f"tokenizer.{name}": Join((published_name(name),)) for name in names}


def titok_config(state: StateDict, any_prefix: bool = False) -> TiTokConfig:
    """Read the sizes of a published tokenizer. Arguments and errors as in `from_titok`."""
    sizes = Sizes(state, "TiTok")
    patch = sizes.shape("encoder.patch_embed.weight")[-1]
    grid = round((sizes.shape("encoder.positional_embedding")[0] - 1) ** 0.5)
    legacy = "pixel_quantize.embedding.weight" in state
    outputs, codes = sizes.shape("encoder.conv_out.weight")[0], "quantize.embedding.weight"

    def stack(half: str) -> StackConfig:
        width = sizes.shape(f"{half}.positional_embedding")[1]
        depth = sizes.count(f"{half}.transformer")
        return StackConfig(width=width, depth=depth, heads=_HEADS.get(width, max(1, width // 64)))

    pixels: dict[str, Any] = {}
    if legacy:
        vocab, channels = sizes.shape("pixel_quantize.embedding.weight")
        levels = sizes.count("pixel_decoder.up")
        widths = tuple(sizes.shape(f"pixel_decoder.up.{i}.block.0.conv1.weight")[0] for i in range(levels))
        blocks = sizes.count("pixel_decoder.up.0.block")
        pixels = {"pixels": MaskGITConfig(widths=widths, blocks=blocks, channels=channels, vocab=vocab)}
    return TiTokConfig(
        image_size=grid * patch,
        patch=patch,
        encoder=stack("encoder"),
        decoder=stack("decoder"),
        tokens=sizes.shape("latent_tokens")[0],
        channels=outputs if codes in state else outputs // 2,
        vocab=sizes.shape(codes)[0] if codes in state else 0,
        unit=legacy,
        legacy=legacy,
        any_prefix=any_prefix,
        **pixels,
    )


def from_titok(state: StateDict, any_prefix: bool = False) -> Conversion:
    """Convert TiTok or One-D-Piece.

    Args:
        state: Published tensors.
        any_prefix: Whether it was trained with tokens dropped from the tail (One-D-Piece); no weight shows this.

    Raises:
        ArzooError: A tensor is missing, unused, or has a shape that does not fit the others.
    """
    config = titok_config(state, any_prefix)
    return filled("titok", config, state, titok_table(config))


def to_titok(tokenizer: TiTok) -> dict[str, Tensor]:
    """Convert a tokenizer to the published layout."""
    return published(tokenizer, titok_table(tokenizer.config))
