"""Checkpoints of VAR: bare state dicts."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.models.common import sampling
from arzoo.models.common.convert import Conversion, Join, StateDict, fill, merge
from arzoo.models.common.convert_modulated import checked, pairs
from arzoo.models.common.sizes import Sizes
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.var.network import VARConfig

KNOWN = {
    sum(side**2 for side in levels): levels
    for levels in ((1, 2, 3, 4, 5, 6, 8, 10, 13, 16), (1, 2, 3, 4, 6, 9, 13, 18, 24, 32))
}
"""Published levels by their number of tokens."""


def var_table(config: VARConfig) -> dict[str, Join]:
    """Map each weight to published tensors."""
    names = {
        "first": "pos_start",
        "positions": "pos_1LC",
        "label.weight": "class_emb.weight",
        "level.weight": "lvl_embed.weight",
    }
    table = {f"backbone.{ours}": Join((theirs,)) for ours, theirs in names.items()}
    table |= pairs("backbone.input", "word_embed") | pairs("backbone.modulation", "head_nm.ada_lin.1")
    table |= pairs("head.output", "head")
    if config.shared_modulation:
        table |= pairs("backbone.shared", "shared_ada_lin.1")
    for i in range(config.depth):
        ours, theirs = f"backbone.blocks.{i}", f"blocks.{i}"
        if config.shared_modulation:
            table[f"{ours}.offset"] = Join((f"{theirs}.ada_gss",))
        else:
            table |= pairs(f"{ours}.modulation", f"{theirs}.ada_lin.1")
        attention = {
            "qkv.weight": "mat_qkv.weight",
            "query_bias": "q_bias",
            "value_bias": "v_bias",
            "scale": "scale_mul_1H11",
        }
        table |= {
            f"{ours}.attention.{name}": Join((f"{theirs}.attn.{other}",)) for name, other in attention.items()
        }
        table |= pairs(f"{ours}.attention.proj", f"{theirs}.attn.proj")
        table |= pairs(f"{ours}.fc1", f"{theirs}.ffn.fc1") | pairs(f"{ours}.fc2", f"{theirs}.ffn.fc2")
    return table


def var_buffers(state: StateDict, config: VARConfig) -> Iterator[tuple[str, Tensor]]:
    """Yield the names of the published buffers of a file, with our values for them."""
    level = config.layout.level()
    mask = torch.zeros(len(level), len(level)).masked_fill(level[:, None] < level[None], -math.inf)
    ours = {"lvl_1L": level[None].float(), "attn_bias_for_masking": mask[None, None]}
    ours |= {f"blocks.{i}.attn.zero_k_bias": torch.zeros(config.width) for i in range(config.depth)}
    return ((name, value) for name, value in ours.items() if name in state)


def _levels(sizes: Sizes) -> tuple[int, ...]:
    """Sides of the levels: those that the file records, else the published ones of so many tokens."""
    if "lvl_1L" in sizes.state:
        return tuple(
            math.isqrt(int(count)) for count in torch.bincount(sizes.state["lvl_1L"].flatten().long())
        )
    tokens = sizes.shape("pos_1LC", 3)[1]
    if tokens not in KNOWN:
        raise ArzooError(
            f"the file does not record its levels, and no published model has {tokens} tokens: give the sides of the "
            "levels with --set levels=[1,2,4] (in Python: levels=)"
        )
    return KNOWN[tokens]


def is_var(state: StateDict) -> bool:
    """Return whether the weights have the names of VAR."""
    return {"pos_1LC", "word_embed.weight", "head_nm.ada_lin.1.weight"} <= state.keys()


def from_var(state: StateDict, levels: tuple[int, ...] | None = None) -> Conversion:
    """Convert VAR, "Visual Autoregressive Modeling", 2024, with one modulation a block or one for all (d36).

    Args:
        state: Published tensors.
        levels: Sides of the levels, where the file does not record them; by default the published ones.

    Raises:
        ArzooError: The weights do not fit, or buffers contradict them.
    """
    if not is_var(state):
        raise ArzooError(
            "weights of VAR have a table of positions (pos_1LC) and a word_embed, but these do not"
        )
    sizes = Sizes(state, "a checkpoint of VAR")
    width, channels = sizes.shape("word_embed.weight", 2)
    hidden = sizes.shape("blocks.0.ffn.fc1.weight", 2)[0]
    depth = sizes.count("blocks")
    config = VARConfig(
        width=width,
        depth=depth,
        heads=sizes.shape("blocks.0.attn.scale_mul_1H11", 4)[1],
        hidden_width=0 if hidden == 4 * width else hidden,
        vocab=sizes.shape("head.weight", 2)[0],
        code_channels=channels,
        levels=tuple(levels or _levels(sizes)),
        classes=sizes.shape("class_emb.weight", 2)[0] - 1,
        shared_modulation="shared_ada_lin.1.weight" in state,
        drop_path=0.1 * depth / 24,
    )
    head = CategoricalConfig(width=width, vocab=config.vocab, plain=True)
    with torch.device("meta"):
        parts = {"backbone": config.build(), "head": head.build()}
    stray = checked(state, var_buffers(state, config))
    fill(parts, merge(state, var_table(config), stray))
    return Conversion("var", parts, {"name": "scales", "options": {}}, sampling.var(width))
