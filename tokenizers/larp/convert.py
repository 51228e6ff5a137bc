"""Convert published LARP tokenizers and back; missing and unused tensors are errors.

Sizes are read from shapes, the shape of a clip from the published tables of positions. The tables are computed here, so
those of a file must be the same. The prior of the training is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.layout import Grid
from arzoo.models.common.convert import Conversion, Join, StateDict
from arzoo.models.common.sizes import Sizes
from arzoo.tokenizers.common.convert import filled, published
from arzoo.tokenizers.common.transformer import StackConfig
from arzoo.tokenizers.larp.network import LARPConfig, order_table, place_table
from arzoo.tokenizers.larp.tokenizer import LARP

PRIOR = "prior_model."
"""Beginning of the names of the prior, which only its training uses."""
_SAME = 1e-5
"""Largest difference of two tables of positions that are the same."""

_NAMES = (
    (r"^encoder\.patches\.", "x_embedder.proj."),
    (r"^encoder\.queries$", "encoder_latent_query_embed"),
    (r"^decoder\.patch_type$", "decoder_patch_query_token_type_embed"),
    (r"^decoder\.norm\.", "final_layer.norm_final."),
    (r"^decoder\.output\.", "final_layer.linear."),
    (r"(blocks\.\d+)\.(qkv|proj)\.", r"\1.attn.\2."),
    (r"(blocks\.\d+)\.up\.", r"\1.mlp.fc1."),
    (r"(blocks\.\d+)\.down\.", r"\1.mlp.fc2."),
    (r"^to_code\.", "bottleneck.in_linear."),
    (r"^from_code\.", "bottleneck.out_linear."),
    (r"^quantizer\.", "bottleneck.regularizer."),
)


_HEADS = {"encoder_num_heads": "heads", "decoder_num_heads": "decoder_heads"}
"""Our names of published arguments."""
_FIXED = {"norm": "none", "l2_normalized": True}
"""What the arguments of the bottleneck must say where they say it."""


def settings_of_file(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `from_larp` from the arguments of the tokenizer, which lie beside its weights.

    Raises:
        ArzooError: They ask for a bottleneck that is not supported.
    """
    settings = {ours: arguments[theirs] for theirs, ours in _HEADS.items() if theirs in arguments}
    bottleneck = arguments.get("bottleneck", {}).get("args", {})
    given = bottleneck | bottleneck.get("regularizer", {}).get("args", {})
    for name, allowed in _FIXED.items():
        if given.get(name, allowed) != allowed:
            raise ArzooError(
                f"the file says {name}={given[name]!r} of the bottleneck of LARP; only {allowed!r} is supported, as in "
                "the released model"
            )
    if "stochastic_temperature" in given:
        settings["temperature"] = given["stochastic_temperature"]
    return settings


def is_larp(state: StateDict) -> bool:
    """Whether the tensors have the names of LARP."""
    return "encoder_latent_query_embed" in state and "bottleneck.regularizer.embedding.weight" in state


def larp_table(config: LARPConfig) -> dict[str, Join]:
    """Published name of each weight, {"tokenizer.NAME": published name}; the record of used codes is not published."""
    with torch.device("meta"):
        names = [name for name in config.build().state_dict() if name != "quantizer.recent"]

    def published_name(name: str) -> str:
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        return name

    return {f"tokenizer.{name}": Join((published_name(name),)) for name in names}


def position_tables(config: LARPConfig) -> dict[str, Tensor]:
    """The fixed tables of positions, by their published names."""
    encoder, decoder = config.encoder.width, config.decoder.width
    return {
        "encoder_patch_pe": place_table(config.patches, encoder),
        "decoder_latent_pe": order_table(config.tokens, decoder),
        "decoder_patch_query_embed": place_table(config.patches, decoder),
    }


def larp_config(
    state: StateDict,
    heads: int | None = None,
    decoder_heads: int | None = None,
    grid: tuple[int, int, int] | None = None,
    temperature: float = 0.03,
) -> LARPConfig:
    """Read the sizes of a published tokenizer. Arguments and errors as in `from_larp`."""
    sizes = Sizes(state, "LARP")
    _, _, patch_frames, patch, _ = sizes.shape("x_embedder.proj.weight", 5)
    sizes.shape("encoder_patch_pe", 3)
    patches = _patches(state["encoder_patch_pe"])
    tokens, width = sizes.shape("encoder_latent_query_embed", 2)
    decoder_width = sizes.shape("decoder_patch_query_token_type_embed", 3)[2]
    vocab, channels = sizes.shape("bottleneck.regularizer.embedding.weight", 2)
    grid = grid or ((4, 16, 16) if tokens == 1024 else (tokens, 1, 1))
    if math.prod(grid) != tokens:
        raise ArzooError(f"{tokens} tokens cannot be read as a grid of {' x '.join(map(str, grid))}")
    heads = heads or max(width // 64, 1)
    decoder_heads = decoder_heads or (heads if decoder_width == width else max(decoder_width // 64, 1))
    return LARPConfig(
        frames=patches.t * patch_frames,
        image_size=patches.h * patch,
        patch_frames=patch_frames,
        patch=patch,
        encoder=StackConfig(width=width, depth=sizes.count("encoder.blocks"), heads=heads),
        decoder=StackConfig(width=decoder_width, depth=sizes.count("decoder.blocks"), heads=decoder_heads),
        grid=grid,
        channels=channels,
        vocab=vocab,
        temperature=temperature,
    )


def _patches(table: Tensor) -> Grid:
    """Return the grid of square frames of which a table of positions (1, G, D) is."""
    count, width = table.shape[1:]
    sides = (side for side in range(1, math.isqrt(count) + 1) if count % side**2 == 0)
    for grid in (Grid(count // side**2, side, side) for side in sides):
        if torch.allclose(place_table(grid, width), table.float().cpu(), atol=_SAME):
            return grid
    raise ArzooError(
        f"encoder_patch_pe {tuple(table.shape)} is not the table of sine positions of a clip of square frames"
    )


def from_larp(
    state: StateDict,
    heads: int | None = None,
    decoder_heads: int | None = None,
    grid: tuple[int, int, int] | None = None,
    temperature: float = 0.03,
) -> Conversion:
    """Convert LARP, "LARP: Tokenizing Videos with a Learned Autoregressive Generative Prior", 2024.

    Args:
        state: Published tensors; the prior is left out.
        heads: Attention heads of the encoder; by default those of the published model, 64 channels each.
        decoder_heads: Attention heads of the decoder; by default as many.
        grid: (t, h, w), how the tokens are read; by default 4 x 16 x 16 for 1024 tokens, otherwise a line.
        temperature: See `LARPConfig`.

    Raises:
        ArzooError: A tensor is missing, unused, or has a shape or positions that do not fit the others.
    """
    config = larp_config(state, heads, decoder_heads, grid, temperature)
    tables = position_tables(config)
    for name, table in tables.items():
        if name not in state or table.shape != state[name].shape:
            given = tuple(state[name].shape) if name in state else "missing"
            raise ArzooError(f"not LARP: tensor {name!r} is {given}, expected {tuple(table.shape)}")
        if not torch.allclose(table, state[name].float().cpu(), atol=_SAME):
            raise ArzooError(f"{name} is not the table of sine positions with which LARP is published")
    kept = {name: v for name, v in state.items() if name not in tables and not name.startswith(PRIOR)}
    return filled("larp", config, kept, larp_table(config), computed=True)


def to_larp(tokenizer: LARP) -> dict[str, Tensor]:
    """Convert a tokenizer to the published layout, without a prior."""
    return published(tokenizer, larp_table(tokenizer.config)) | position_tables(tokenizer.config)
