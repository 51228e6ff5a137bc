"""Conversion shared by xAR and FlowAR: names, sizes read from shapes, and buffers that are checked, not kept.

The published files hold an attention mask and rotary tables. These follow from sizes and plan, so a conversion compares
them with ours and fails if they differ.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.plan import Plan
from arzoo.models.common.convert import Join, StateDict, fill, merge
from arzoo.models.common.modulation import ModulatedConfig, Rotary
from arzoo.models.common.sizes import Sizes

STACKS = ("encoder", "decoder")
TABLES = ("encoder", "decoder", "output")
_PUBLISHED_TABLE = {"encoder": "encoder", "decoder": "decoder", "output": "diffusion"}


def trunk_table(config: ModulatedConfig) -> dict[str, Join]:
    """Map each weight of a `ModulatedTrunk` to published tensors, except the tables of positions."""
    table = {"backbone.label.weight": Join(("class_emb.weight",))}
    table["backbone.input_norm.weight"] = Join(("z_proj_ln.weight",))
    table |= pairs("backbone.input", "z_proj") | pairs("backbone.bridge", "decoder_embed")
    for stack, depth in zip(STACKS, (config.encoder_depth, config.decoder_depth), strict=True):
        table[f"backbone.{stack}_norm.weight"] = Join((f"{stack}_norm.weight",))
        for i in range(depth):
            table |= block_table(f"backbone.{stack}.{i}", f"{stack}_blocks.{i}", "ada_lin.1")
            table[f"backbone.{stack}.{i}.attention.qkv.bias"] = Join((f"{stack}_blocks.{i}.attn.qkv.bias",))
    return table


def block_table(ours: str, theirs: str, modulation: str = "") -> dict[str, Join]:
    """Map the weights of attention (without the bias of `qkv`), feed-forward and modulation of a block."""
    table = {f"{ours}.attention.qkv.weight": Join((f"{theirs}.attn.qkv.weight",))}
    table |= pairs(f"{ours}.attention.proj", f"{theirs}.attn.proj")
    table |= pairs(f"{ours}.mlp.gate_up", f"{theirs}.mlp.fc1_g", f"{theirs}.mlp.fc1_x")
    table |= pairs(f"{ours}.mlp.down", f"{theirs}.mlp.fc2")
    return table | (pairs(f"{ours}.modulation", f"{theirs}.{modulation}") if modulation else {})


def time_table(ours: str, theirs: str) -> dict[str, Join]:
    """Map the weights of a time embedding."""
    return pairs(f"{ours}.fc1", f"{theirs}.mlp.0") | pairs(f"{ours}.fc2", f"{theirs}.mlp.2")


def pairs(ours: str, *theirs: str) -> dict[str, Join]:
    """Map weight and bias of a linear layer."""
    return {f"{ours}.{kind}": Join(tuple(f"{name}.{kind}" for name in theirs)) for kind in ("weight", "bias")}


def arrange(state: StateDict, order: Tensor) -> dict[str, Tensor]:
    """Convert tables of positions (1, N, D) in order of generation to ours (N, D) in order of the layout.

    Args:
        state: Published tensors.
        order: (N,) position of each place of the sequence.

    Returns:
        The state dict with each table that it has under our name.
    """
    renamed = dict(state)
    for ours in TABLES:
        if (name := _table_name(ours)) in renamed:
            rows = renamed.pop(name)[0]
            if len(rows) != len(order):
                raise ArzooError(f"tensor {name!r} has {len(rows)} positions, the plan has {len(order)}")
            renamed[f"{ours}_positions"] = torch.zeros_like(rows).index_copy(0, order, rows)
    return renamed


def disarrange(state: StateDict, order: Tensor) -> dict[str, Tensor]:
    """Invert `arrange`."""
    renamed = dict(state)
    for ours in TABLES:
        if (rows := renamed.pop(f"{ours}_positions", None)) is not None:
            renamed[_table_name(ours)] = rows[order][None]
    return renamed


def _table_name(ours: str) -> str:
    return f"{_PUBLISHED_TABLE[ours]}_pos_embed_learned"


def position_table(*tables: str) -> dict[str, Join]:
    """Map the tables of positions, named as `arrange` names them."""
    return {f"backbone.{name}_positions": Join((f"{name}_positions",)) for name in tables}


def filled(
    parts: dict[str, nn.Module],
    state: StateDict,
    table: Mapping[str, Join],
    plan: Plan,
    rotary: dict[str, Rotary],
    order: Tensor,
) -> dict[str, nn.Module]:
    """Load the published weights into parts, after comparing the published buffers with ours.

    Args:
        parts: Modules by name.
        state: Published tensors.
        table: The published tensors of each weight, with tables of positions as `arrange` returns them.
        plan: See `buffers`, also for the next two.
        rotary: Our rotary tables.
        order: (N,) position of each place of the published sequence.

    Raises:
        ArzooError: The weights do not fit, or buffers contradict them.
    """
    stray = checked(state, buffers(state, plan, rotary, order))
    return fill(parts, merge(arrange(state, order), table, stray))


def group_sizes(state: StateDict) -> list[int]:
    """Return the size of each group, from the published mask; empty if the file has none."""
    if "mask" not in state:
        return []
    seen = (state["mask"][0, 0] == 0).sum(1)
    ends = [0, *seen.unique().tolist()]
    return [last - first for first, last in itertools.pairwise(ends)]


def trunk_sizes(state: StateDict, heads: int | None, known: dict[int, int]) -> dict[str, Any]:
    """Return the settings of a `ModulatedConfig` that shapes determine.

    Args:
        state: Published tensors.
        heads: Attention heads of both stacks where the file has no rotary tables; by default those of the published
            model of this width.
        known: Heads of published widths.

    Raises:
        ArzooError: Tensors that determine the sizes are missing.
    """
    sizes = Sizes(state, "a checkpoint of xAR or FlowAR")
    width, channels = sizes.shape("z_proj.weight", 2)
    hidden = sizes.shape("encoder_blocks.0.mlp.fc1_g.weight", 2)[0]
    stack_heads = []
    for stack in STACKS:
        table = state.get(f"{stack}_blocks.0.attn.rope.freqs")
        stored = None if table is None else width // (4 * len(table))
        stack_heads.append(stored or heads or known.get(width) or max(width // 64, 1))
    return {
        "width": width,
        "channels": channels,
        "classes": sizes.shape("class_emb.weight", 2)[0] - 1,
        "hidden_width": 0 if hidden == 8 * width // 3 else hidden,
        "encoder_depth": sizes.count("encoder_blocks"),
        "decoder_depth": sizes.count("decoder_blocks"),
        "heads": stack_heads[0],
        "decoder_heads": 0 if stack_heads[0] == stack_heads[1] else stack_heads[1],
    }


def buffers(
    state: StateDict, plan: Plan, rotary: dict[str, Rotary], order: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Yield the names of a file's published buffers with our values for them.

    Args:
        state: Published tensors.
        plan: The order.
        rotary: Our rotary tables, by the beginning of the published names.
        order: (N,) position of each place of the published sequence.
    """
    for name in state:
        if name == "mask":
            look = plan.mask(order[None], order[None])[:, None]
            yield name, torch.zeros(look.shape).masked_fill(~look, -math.inf)
        elif match := re.fullmatch(r"(.+)\.rope\.freqs(_cos|_sin)?", name):
            ours = next((table for prefix, table in rotary.items() if match[1].startswith(prefix)), None)
            if ours is None:
                continue
            if match[2] is None:
                count = ours.head_width // 4
                yield name, 1 / ours.base ** (torch.arange(count).float() / count)
            else:
                part = ours.table[order, :, ("_cos", "_sin").index(match[2])]
                yield name, part.repeat_interleave(2, 1)


def checked(state: StateDict, expected: Iterator[tuple[str, Tensor]]) -> tuple[str, ...]:
    """Compare published buffers with ours and return their names.

    Raises:
        ArzooError: One has another shape or other values.
    """
    names = []
    for name, ours in expected:
        theirs = state[name].float()
        if theirs.shape != ours.shape or not torch.allclose(theirs, ours, rtol=0, atol=1e-5):
            raise ArzooError(
                f"buffer {name!r} of the weights is not what its sizes say: another plan, grid or number of heads"
            )
        names.append(name)
    return tuple(names)
