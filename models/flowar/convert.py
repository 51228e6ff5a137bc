"""Checkpoints of FlowAR: bare state dicts, or training checkpoints with averaged weights beside the others."""

from __future__ import annotations

import math

import torch

from arzoo.base.errors import ArzooError
from arzoo.models.common import sampling
from arzoo.models.common.convert import Conversion, Join, StateDict
from arzoo.models.common.convert_modulated import (
    block_table,
    filled,
    group_sizes,
    pairs,
    position_table,
    time_table,
    trunk_sizes,
    trunk_table,
)
from arzoo.models.common.sizes import Sizes
from arzoo.models.flowar.network import FlowARConfig
from arzoo.models.heads.flow_net import FlowNetConfig
from arzoo.samplers.plans.scales import scales

EMA_FIRST = True
"""Whether averaged weights of published files are preferred."""

_HEADS = {1536: 16}
"""Heads of published widths that are not 64 channels wide."""


def flowar_table(backbone: FlowARConfig, head: FlowNetConfig) -> dict[str, Join]:
    """Map each weight to published tensors, with tables of positions as `arrange` returns them."""
    table = trunk_table(backbone) | position_table("encoder", "decoder", "output")
    table |= time_table("head.time", "flownet.time_embed")
    for ours, theirs in (
        ("condition", "cond_embed"),
        ("input", "input_proj"),
        ("output", "final_layer.linear"),
        ("modulation", "final_layer.adaLN_modulation.1"),
    ):
        table |= pairs(f"head.{ours}", f"flownet.{theirs}")
    for i in range(head.depth):
        ours, theirs = f"head.blocks.{i}", f"flownet.res_blocks.{i}"
        if not head.cross:
            table |= block_table(ours, theirs, "ada_lin")
            continue
        table |= block_table(ours, theirs)
        table |= pairs(f"{ours}.modulation1", f"{theirs}.ada_lin_attn")
        table |= pairs(f"{ours}.modulation2", f"{theirs}.ada_lin_mlp")
        table |= pairs(f"{ours}.proj", f"{theirs}.crossattn.proj")
        table |= {
            f"{ours}.query.weight": Join((f"{theirs}.crossattn.q.weight",)),
            f"{ours}.key_value.weight": Join((f"{theirs}.crossattn.kv.weight",)),
            f"{ours}.query_norm.weight": Join((f"{theirs}.norm2_1.weight",)),
            f"{ours}.feature_norm.weight": Join((f"{theirs}.norm2_2.weight",)),
        }
    return table


def is_flowar(state: StateDict) -> bool:
    """Return whether the weights have a flow network."""
    return "flownet.input_proj.weight" in state


def from_flowar(
    state: StateDict,
    heads: int | None = None,
    levels: tuple[int, ...] | None = None,
    head_steps: int | None = None,
) -> Conversion:
    """Convert FlowAR, "FlowAR: Scale-wise Autoregressive Image Generation Meets Flow Matching", 2024.

    Args:
        state: Published tensors.
        heads: Attention heads of the trunk, where the file has no rotary tables; by default those of the published
            model of this width.
        levels: Sides of the scales, where the file has no mask; 1, 2, 4, 8, 16 by default.
        head_steps: Default head steps; 50 for the widest published model, else 25.

    Raises:
        ArzooError: The weights do not fit, or buffers contradict them.
    """
    if not is_flowar(state):
        raise ArzooError("weights of FlowAR have a flow network (flownet), but these do not")
    sides = levels or tuple(math.isqrt(size) for size in group_sizes(state)) or (1, 2, 4, 8, 16)
    config = FlowARConfig(levels=tuple(sides), **trunk_sizes(state, heads, _HEADS))
    published = Sizes(state, "a checkpoint of FlowAR")
    net = FlowNetConfig(
        width=config.width, channels=config.channels, levels=config.levels, depth=published.count("flownet.res_blocks"),
        hidden=published.shape("flownet.input_proj.weight", 2)[0],
        head_steps=head_steps or (50 if config.width >= 1536 else 25),
        cross=any(".crossattn." in name for name in state),
    )  # fmt: skip
    plan, backbone, head = scales(config.layout), config.build(), net.build()
    order = torch.arange(config.layout.size)
    rotary = {
        "encoder_blocks.": backbone.encoder_rotary,
        "decoder_blocks.": backbone.decoder_rotary,
        "flownet.": head.rotary,
    }
    parts = filled(
        {"backbone": backbone, "head": head}, state, flowar_table(config, net), plan, rotary, order
    )
    order_of_scales = {"name": "scales", "options": {"levels": list(config.levels)}}
    return Conversion("flowar", parts, order_of_scales, sampling.flowar(config.width))
