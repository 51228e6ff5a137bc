"""Checkpoints of xAR: bare state dicts, or training checkpoints with averaged weights beside the others."""

from __future__ import annotations

import math

from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.plan import Plan
from arzoo.models.common import sampling
from arzoo.models.common.convert import Conversion, Join, StateDict
from arzoo.models.common.convert_modulated import (
    filled,
    group_sizes,
    pairs,
    position_table,
    time_table,
    trunk_sizes,
    trunk_table,
)
from arzoo.models.common.sizes import Sizes
from arzoo.models.heads.flow import BackboneFlowConfig
from arzoo.models.xar.network import XARConfig
from arzoo.samplers.plans.inplace import cells

EMA_FIRST = True
"""Whether averaged weights of published files are preferred."""

_HEADS = {1280: 16}
"""Heads of published widths that are not 64 channels wide."""


def xar_table(config: XARConfig) -> dict[str, Join]:
    """Map each weight to published tensors, with tables of positions as `arrange` returns them."""
    table = trunk_table(config) | position_table("encoder", "decoder")
    return table | time_table("backbone.time", "time_embed") | pairs("backbone.output", "pred")


def sequence(plan: Plan) -> Tensor:
    """Return the position (N,) of each place of the published sequence, which goes group by group."""
    return plan.fed(-1, len(plan))[0]


def is_xar(state: StateDict) -> bool:
    """Return whether the weights are those of a backbone with a time embedding that predicts latents."""
    return "pred.weight" in state and "time_embed.mlp.0.weight" in state


def from_xar(
    state: StateDict,
    heads: int | None = None,
    grid: tuple[int, int] | None = None,
    regions: int | None = None,
) -> Conversion:
    """Convert xAR, "Beyond Next-Token: Next-X Prediction for Autoregressive Visual Generation", 2025, next cells.

    Args:
        state: Published tensors.
        heads: Attention heads, where the file has no rotary tables; by default those of the published model of this
            width.
        grid: (h, w) of the tokens; a square by default.
        regions: Cells per side, where the file has no mask; 2 by default.

    Raises:
        ArzooError: The weights do not fit, or buffers contradict them.
    """
    sizes = trunk_sizes(state, heads, _HEADS)
    count = Sizes(state, "a checkpoint of xAR").shape("encoder_pos_embed_learned", 3)[1]
    side = math.isqrt(count)
    config = XARConfig(grid=(1, *(grid or (side, count // side))), **sizes)
    if config.layout.size != count:
        raise ArzooError(f"the weights have {count} positions, which is no square number: give grid=(h, w)")
    regions = regions or math.isqrt(len(group_sizes(state))) or 2
    plan, backbone = cells(config.layout, regions), config.build()
    order = sequence(plan)
    rotary = {"encoder_blocks.": backbone.encoder_rotary, "decoder_blocks.": backbone.decoder_rotary}
    ours: dict[str, nn.Module] = {"backbone": backbone}
    ours["head"] = BackboneFlowConfig(channels=config.channels).build()
    parts = filled(ours, state, xar_table(config), plan, rotary, order)
    recorded = {"name": "cells", "options": {"regions": regions}}
    return Conversion("xar", parts, recorded, sampling.xar(config.width))
