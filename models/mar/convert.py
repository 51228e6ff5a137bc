"""Checkpoints of MAR (class-conditional, base, large and huge).

Published files hold the weights twice, `model` and their average `model_ema`; the average is taken. Sizes are read from
shapes; arguments give the rest: attention heads of widths that no published model has, and a grid that is not square.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from arzoo.base.errors import ArzooError
from arzoo.models.common import sampling
from arzoo.models.common.convert import Conversion, Join, StateDict, fill, merge
from arzoo.models.common.sizes import Sizes
from arzoo.models.heads.diffusion import DiffusionMLPConfig
from arzoo.models.mar.network import MARConfig

EMA_FIRST = True
"""Whether averaged weights of published files are preferred."""
EMA_PUBLISHED = True
"""Whether published files always hold averaged weights."""

# Width: attention heads of the published models.
HEADS = {768: 12, 1024: 16, 1280: 16}
_TABLES = {
    "label.weight": "class_emb.weight",
    "null": "fake_latent",
    "mask_token": "mask_token",
    "encoder_positions": "encoder_pos_embed_learned",
    "decoder_positions": "decoder_pos_embed_learned",
    "feature_positions": "diffusion_pos_embed_learned",
}
LAYERS = {
    "token": "z_proj",
    "token_norm": "z_proj_ln",
    "encoder_norm": "encoder_norm",
    "bridge": "decoder_embed",
    "decoder_norm": "decoder_norm",
}
BLOCK = ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
_HEAD = {
    "time.fc1": "time_embed.mlp.0",
    "time.fc2": "time_embed.mlp.2",
    "condition": "cond_embed",
    "input": "input_proj",
    "final_modulation": "final_layer.adaLN_modulation.1",
    "output": "final_layer.linear",
}


def mar_table(backbone: MARConfig, head: DiffusionMLPConfig) -> dict[str, Join]:
    """Map each weight of backbone and head to published tensors, {"backbone.NAME" or "head.NAME": published names}."""
    table = {f"backbone.{ours}": Join((theirs,)) for ours, theirs in _TABLES.items()}
    for ours, theirs in _layers(backbone, head):
        for kind in ("weight", "bias"):
            table[f"{ours}.{kind}"] = Join(tuple(f"{name}.{kind}" for name in theirs))
    return table


def _layers(backbone: MARConfig, head: DiffusionMLPConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield our layers with the published ones that make them up."""
    for ours, theirs in LAYERS.items():
        yield f"backbone.{ours}", (theirs,)
    for stack, depth in (("encoder", backbone.depth), ("decoder", backbone.decoder[1])):
        for i in range(depth):
            for layer in BLOCK:
                yield f"backbone.{stack}.{i}.{layer}", (f"{stack}_blocks.{i}.{layer}",)
    yield from head_layers(head)


def head_layers(head: DiffusionMLPConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the layers of our diffusion head with the published ones that make them up."""
    net, blocks = "diffloss.net", range(head.depth)
    for ours, theirs in _HEAD.items():
        yield f"head.{ours}", (f"{net}.{theirs}",)
    for i in blocks:
        for ours, theirs in (("norm", "in_ln"), ("fc1", "mlp.0"), ("fc2", "mlp.2")):
            yield f"head.blocks.{i}.{ours}", (f"{net}.res_blocks.{i}.{theirs}",)
    yield "head.modulation", tuple(f"{net}.res_blocks.{i}.adaLN_modulation.1" for i in blocks)


def mar_configs(
    state: StateDict,
    heads: int | None = None,
    decoder_heads: int | None = None,
    grid: tuple[int, int] | None = None,
) -> tuple[MARConfig, DiffusionMLPConfig]:
    """Read the sizes of a published checkpoint.

    Args:
        state: Published tensors.
        heads: Attention heads of the encoder; by default those of the published model of this width.
        decoder_heads: Attention heads of the decoder; by default those of the encoder.
        grid: (h, w) of the tokens, a square by default.

    Raises:
        ArzooError: Tensors that determine the sizes are missing or have another shape, the tokens form no square and no
            grid is given, or the number of heads is unknown.
    """
    sizes = Sizes(state, "a checkpoint of MAR")
    classes, width = sizes.shape("class_emb.weight", 2)
    _, size, decoder_width = sizes.shape("diffusion_pos_embed_learned", 3)
    channels = sizes.shape("z_proj.weight", 2)[1]
    if heads is None and width not in HEADS:
        known = ", ".join(map(str, HEADS))
        raise ArzooError(
            f"how many attention heads a MAR of width {width} has is not known (widths {known} are): set heads"
        )
    side = math.isqrt(size)
    if grid is None and side * side != size:
        raise ArzooError(f"{size} tokens make no square: set grid to their rows and columns")
    heads = heads or HEADS[width]
    hidden = sizes.shape("encoder_blocks.0.mlp.fc1.weight", 2)[0]
    backbone = MARConfig(
        width=width, depth=sizes.count("encoder_blocks"), heads=heads, decoder_width=decoder_width,
        decoder_depth=sizes.count("decoder_blocks"), decoder_heads=decoder_heads or heads, mlp_ratio=hidden / width,
        channels=channels, grid=(1, *(grid or (side, side))), classes=classes,
        buffer=sizes.shape("encoder_pos_embed_learned", 3)[1] - size,
    )  # fmt: skip
    return backbone, sized_mlp_head(sizes, decoder_width, channels)


def sized_mlp_head(sizes: Sizes, width: int, channels: int) -> DiffusionMLPConfig:
    """Read the sizes of a published diffusion head over features of some width."""
    return DiffusionMLPConfig(
        width=width, channels=channels, hidden=sizes.shape("diffloss.net.input_proj.weight", 2)[0],
        depth=sizes.count("diffloss.net.res_blocks"),
    )  # fmt: skip


def is_mar(state: StateDict) -> bool:
    """Return whether tensors are named like those of MAR."""
    return {"fake_latent", "diffloss.net.input_proj.weight"} <= state.keys() and "cond_tokens" not in state


def from_mar(
    state: StateDict,
    heads: int | None = None,
    decoder_heads: int | None = None,
    grid: tuple[int, int] | None = None,
    steps: int = 64,
) -> Conversion:
    """Convert MAR, "Autoregressive Image Generation without Vector Quantization", 2024.

    Args:
        state: Published tensors.
        heads: See `mar_configs`, also for the next two.
        decoder_heads: Attention heads of the decoder.
        grid: (h, w) of the tokens.
        steps: Steps of the order; 64 is the published default, 256 gives the published figures.
    """
    backbone, head = mar_configs(state, heads, decoder_heads, grid)
    parts = fill(
        {"backbone": backbone.build(), "head": head.build()}, merge(state, mar_table(backbone, head))
    )
    plan = {"name": "masked", "options": {"steps": steps}}
    return Conversion("mar", parts, plan, sampling.mar(backbone.width))
