"""Checkpoints of AiM (B, L, XL), and of Mamba language models over codes in the layouts of three packages.

Sizes are read from shapes. The output layer shares the weights of the embedding of codes, so files may hold either
alone. `transformers` calls the embedding `embeddings`; mambapy and mamba-minimal leave out `backbone.`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch

from arzoo.base.errors import ArzooError
from arzoo.models.common import sampling
from arzoo.models.common.convert import Conversion, Join, StateDict, fill, merge
from arzoo.models.common.sizes import Sizes
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.mamba.network import MambaConfig

_LAYERS = {
    1: {
        "in_proj.weight": "in_proj.weight",
        "branch.conv1d.weight": "conv1d.weight",
        "branch.conv1d.bias": "conv1d.bias",
        "branch.x_proj.weight": "x_proj.weight",
        "branch.dt_proj.weight": "dt_proj.weight",
        "branch.dt_proj.bias": "dt_proj.bias",
        "branch.A_log": "A_log",
        "branch.D": "D",
        "out_proj.weight": "out_proj.weight",
    },
    2: {
        name: name
        for name in (
            "in_proj.weight", "conv1d.weight", "conv1d.bias", "dt_bias", "A_log", "D", "norm.weight", "out_proj.weight",
        )
    },
}  # fmt: skip
"""Our names of the weights of a layer, and the published ones."""
_BIASES = {"in_proj.bias": "in_proj.bias", "out_proj.bias": "out_proj.bias"}
_TOKENIZER = "vqvae."
"""Prefix of the tokenizer's weights in published files of AiM."""


def layer_table(version: int, ours: str, theirs: str, biases: bool = False) -> dict[str, Join]:
    """Map the weights of a layer to published tensors.

    Args:
        version: Of Mamba.
        ours: Prefix of our names.
        theirs: Prefix of the published names.
        biases: Whether its projections have biases.
    """
    names = _LAYERS[version] | (_BIASES if biases else {})
    return {f"{ours}{name}": Join((f"{theirs}{published}",)) for name, published in names.items()}


def layer_sizes(state: StateDict, prefix: str, groups: int = 1) -> dict[str, Any]:
    """Read the sizes of a layer as settings of `MambaConfig`.

    Args:
        state: Published tensors.
        prefix: Of the names of the layer.
        groups: Groups of heads of Mamba-2, which shapes do not tell.

    Raises:
        ArzooError: Tensors are missing or have other shapes.
    """
    sizes = Sizes(state, "a layer of Mamba")
    width, inner = sizes.shape(f"{prefix}out_proj.weight", 2)
    channels, _, kernel = sizes.shape(f"{prefix}conv1d.weight", 3)
    found: dict[str, Any] = {"width": width, "expand": inner // width, "kernel": kernel}
    found["bias"] = f"{prefix}in_proj.bias" in state
    if inner % width:
        raise ArzooError(f"the {inner} inner channels of a layer must be a multiple of its width, {width}")
    if f"{prefix}x_proj.weight" in state:
        state_size = sizes.shape(f"{prefix}A_log", 2)[1]
        return found | {
            "version": 1, "state_size": state_size, "rank": sizes.shape(f"{prefix}dt_proj.weight", 2)[1],
        }  # fmt: skip
    # Inner channels and two vectors per group are convolved.
    heads, shared = sizes.shape(f"{prefix}dt_bias", 1)[0], channels - inner
    if inner % heads or shared < 1 or shared % (2 * groups):
        raise ArzooError(
            f"{channels} convolved channels, {inner} of them inner ones, do not fit {heads} heads in {groups} groups"
        )
    return found | {
        "version": 2, "head_width": inner // heads, "groups": groups, "state_size": shared // (2 * groups),
    }  # fmt: skip


def aim_table(config: MambaConfig) -> dict[str, Join]:
    """Map each weight of backbone and head to published tensors, {"backbone.NAME" or "head.NAME": published names}."""
    names = {
        "condition.table": "cls_embed.embedding_table",
        "token": "embeddings.word_embeddings",
        "place": "embeddings.position_embeddings",
        "norm": "norm_f",
        "output_norm": "final_layer.norm_final",
    }
    table = {
        f"backbone.{ours}.weight": Join((f"backbone.{theirs}.weight",)) for ours, theirs in names.items()
    }
    modulations = {"output_modulation": "final_layer.adaLN_modulation.1"}
    if config.modulation == "group":
        modulations["group"] = "adaln_group.1"
    for i in range(config.depth):
        ours, theirs = f"backbone.blocks.{i}", f"backbone.layers.{i}"
        table[f"{ours}.norm.weight"] = Join((f"{theirs}.norm.weight",))
        table |= layer_table(config.version, f"{ours}.mixer.", f"{theirs}.mixer.", config.bias)
        if config.modulation == "group":
            table[f"{ours}.table"] = Join((f"{theirs}.scale_shift_table",))
        else:
            modulations[f"blocks.{i}.modulation"] = f"layers.{i}.adaLN_modulation.1"
    for ours, theirs in modulations.items():
        for kind in ("weight", "bias"):
            table[f"backbone.{ours}.{kind}"] = Join((f"backbone.{theirs}.{kind}",))
    return table | {"head.output.weight": Join(("lm_head.weight",))}


def mamba_table(config: MambaConfig) -> dict[str, Join]:
    """Map the weights of a language model, as `aim_table` does; names with `backbone.`, embedding as in mamba-ssm."""
    table = {"backbone.token.weight": Join(("backbone.embedding.weight",))}
    for i in range(config.depth):
        ours, theirs = f"backbone.blocks.{i}", f"backbone.layers.{i}"
        table[f"{ours}.norm.weight"] = Join((f"{theirs}.norm.weight",))
        table |= layer_table(config.version, f"{ours}.mixer.", f"{theirs}.mixer.", config.bias)
    return table | {
        "head.norms.0.weight": Join(("backbone.norm_f.weight",)),
        "head.output.weight": Join(("lm_head.weight",)),
    }


def tied(state: StateDict, embedding: str) -> dict[str, torch.Tensor]:
    """Return a state with both names of the weights that embedding and output layer share."""
    names = (embedding, "lm_head.weight")
    present = [state[name] for name in names if name in state]
    return {**{name: present[0] for name in names if present}, **state}


def is_aim(state: StateDict) -> bool:
    """Return whether tensors are named like those of AiM."""
    return any(name.endswith("cls_embed.embedding_table.weight") for name in state)


def is_mamba(state: StateDict) -> bool:
    """Return whether tensors are named like those of a Mamba language model."""
    return not is_aim(state) and any(
        re.fullmatch(r"(backbone\.)?layers\.0\.mixer\.A_log", name) for name in state
    )


def from_aim(
    state: StateDict, grid: tuple[int, int] = (16, 16), groups: int = 1, decoding_offset: int = 1
) -> Conversion:
    """Convert AiM, "Scalable Autoregressive Image Generation with Mamba", 2024.

    The tokenizer in the file, LlamaGen's VQ-16, is left out: it is converted from a file of its own.

    Args:
        state: Published tensors.
        grid: (h, w) of the tokens.
        groups: Groups of heads of Mamba-2, which shapes do not tell; 1 as published.
        decoding_offset: By how many positions decoding is off, see `MambaConfig`; 1 as published.

    Raises:
        ArzooError: Tensors that determine the sizes are missing or have another shape.
    """
    own = {
        name.removeprefix("mamba."): value for name, value in state.items() if not name.startswith(_TOKENIZER)
    }
    word = "backbone.embeddings.word_embeddings.weight"
    own = tied(own, word)
    sizes = Sizes(own, "a checkpoint of AiM")
    rows = sizes.shape("backbone.embeddings.position_embeddings.weight", 2)[0]
    if rows != grid[0] * grid[1] + 1:
        raise ArzooError(
            f"weights of AiM have a row of positions for each token and one more; here {rows} rows, for a grid of "
            f"{grid[0]} x {grid[1]} tokens. Give the grid: --grid HEIGHT WIDTH (in Python: grid=)"
        )
    layer = layer_sizes(own, "backbone.layers.0.mixer.", groups)
    modulation: dict[str, Any] = {"modulation": "block"}
    if (shared := "backbone.adaln_group.1.weight") in own:
        parts = sizes.shape(shared, 2)[0] // (3 * layer["width"])
        modulation = {"modulation": "group", "modulation_groups": parts}
    config = MambaConfig(
        depth=sizes.count("backbone.layers"),
        vocab=sizes.shape(word, 2)[0],
        grid=(1, *grid),
        classes=sizes.shape("backbone.cls_embed.embedding_table.weight", 2)[0] - 1,
        decoding_offset=decoding_offset,
        **modulation,
        **layer,
    )
    conversion = _converted("aim", own, config, aim_table(config), bare=True)
    if any(name.startswith(_TOKENIZER) for name in state):
        remark = (
            "its tokenizer is left out: it is LlamaGen's VQ-16 (llamagen_vq16), which has a file of its own"
        )
        return replace(conversion, remark=remark)
    return conversion


def from_mamba(state: StateDict, grid: tuple[int, int] = (16, 16), groups: int = 1) -> Conversion:
    """Convert a language model over codes, trained with mamba-ssm, transformers or mambapy, without a condition.

    Nothing predicts the first token, which must be given.

    Args:
        state: Published tensors.
        grid: (h, w) of the tokens.
        groups: Groups of heads of Mamba-2, which shapes do not tell; 1 as published.

    Raises:
        ArzooError: Tensors that determine the sizes are missing or have another shape.
    """
    own = {}
    for name, value in state.items():
        full = name if name.startswith(("backbone.", "lm_head.")) else f"backbone.{name}"
        own[full.replace("backbone.embeddings.", "backbone.embedding.")] = value
    own = tied(own, "backbone.embedding.weight")
    sizes = Sizes(own, "a Mamba language model")
    config = MambaConfig(
        depth=sizes.count("backbone.layers"),
        vocab=sizes.shape("backbone.embedding.weight", 2)[0],
        grid=(1, *grid),
        classes=0,
        positions=False,
        **layer_sizes(own, "backbone.layers.0.mixer.", groups),
    )
    return _converted("mamba", own, config, mamba_table(config), bare=False)


def _converted(
    source: str, state: StateDict, config: MambaConfig, table: dict[str, Join], bare: bool
) -> Conversion:
    """Build backbone and head and load published weights into them, each a tensor of its own."""
    weights = {name: value.clone() for name, value in merge(state, table).items()}
    head = CategoricalConfig(width=config.width, vocab=config.vocab, norm_eps=config.norm_eps, bare=bare)
    parts = fill({"backbone": config.build(), "head": head.build()}, weights)
    control = sampling.aim(config.width) if source == "aim" else sampling.Control()
    return Conversion(source, parts, {"name": "raster", "options": {}}, control)
