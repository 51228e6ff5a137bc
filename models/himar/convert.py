"""Checkpoints of Hi-MAR (class-conditional, base, large and huge).

Published files hold the weights twice, `model` and their average `model_ema`; the average is taken. Sizes are read from
shapes; arguments give the rest: attention heads of widths that no published model has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.models.common import sampling
from arzoo.models.common.convert import Conversion, Join, StateDict, fill, merge
from arzoo.models.common.sizes import Sizes
from arzoo.models.heads.diffusion import DiffusionMLPConfig
from arzoo.models.heads.dit import DiTConfig, waves
from arzoo.models.himar.network import HiMARConfig
from arzoo.models.mar.convert import BLOCK, HEADS, LAYERS, head_layers, sized_mlp_head

EMA_FIRST = True
"""Whether averaged weights of published files are preferred."""
EMA_PUBLISHED = True
"""Whether published files always hold averaged weights."""

# Width of the DiT head: its attention heads in the published models.
_DIT_HEADS = {512: 8, 768: 12}
_TABLES = {
    "label.weight": "class_emb.weight",
    "null": "fake_latent",
    "null_pivots": "cond_tokens",
    "mask_tokens": "mask_token",
    "encoder_positions": "encoder_pos_embed_learned",
    "decoder_positions": "decoder_pos_embed_learned",
    "feature_positions": "diffusion_pos_embed_learned",
}
_STAGES = ("mask_tokens", "encoder_positions", "decoder_positions")
"""Published as one table, first that of the first stage."""
_LAYERS = LAYERS | {"pivot": "cond_proj", "pivot_features": "cond_z_proj"}
_DIT = {
    "time.fc1": "t_embedder.mlp.0",
    "time.fc2": "t_embedder.mlp.2",
    "condition": "c_embedder.proj",
    "input": "x_embedder.proj",
    "modulation": "final_layer.adaLN_modulation.1",
    "output": "final_layer.linear",
}
_DIT_BLOCK = {
    "attention.qkv": "attn.qkv",
    "attention.proj": "attn.proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
    "modulation": "adaLN_modulation.1",
}
_NET = "cond_diffloss.net"
_FIXED = (f"{_NET}.pos_embed", f"{_NET}.c_pos_embed")
"""Tensors that are no weights: positions that follow from the size, and zeros that nothing reads."""


def himar_table(backbone: HiMARConfig, head: DiffusionMLPConfig, dit: DiTConfig) -> dict[str, Join]:
    """Map each weight to published tensors, {"backbone.NAME", "head.NAME" or "head1.NAME": published names}."""
    table = {f"backbone.{ours}": Join((theirs,)) for ours, theirs in _TABLES.items()}
    for stack, depth in (("encoder", backbone.depth), ("decoder", backbone.decoder[0])):
        table[f"backbone.{stack}_stages.table.weight"] = Join((f"{stack}_task_emb.weight",))
        for i in range(depth):
            for ours, theirs in (("stage_scale", "adaLN_scale"), ("stage_shift", "adaLN_shift")):
                table[f"backbone.{stack}.{i}.{ours}"] = Join((f"{stack}_blocks.{i}.{theirs}",))
    for ours, names in _layers(backbone, head, dit):
        for kind in ("weight", "bias"):
            table[f"{ours}.{kind}"] = Join(tuple(f"{name}.{kind}" for name in names))
    return table


def _layers(
    backbone: HiMARConfig, head: DiffusionMLPConfig, dit: DiTConfig
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield our layers with the published ones that make them up."""
    for ours, theirs in _LAYERS.items():
        yield f"backbone.{ours}", (theirs,)
    for stack, depth in (("encoder", backbone.depth), ("decoder", backbone.decoder[0])):
        yield f"backbone.{stack}_stages.project", (f"{stack}_blocks_ada.1",)
        for i in range(depth):
            for layer in BLOCK:
                yield f"backbone.{stack}.{i}.{layer}", (f"{stack}_blocks.{i}.{layer}",)
    yield from head_layers(head)
    for ours, theirs in _DIT.items():
        yield f"head1.{ours}", (f"{_NET}.{theirs}",)
    for i in range(dit.depth):
        for ours, theirs in _DIT_BLOCK.items():
            yield f"head1.blocks.{i}.{ours}", (f"{_NET}.blocks.{i}.{theirs}",)


def arranged(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our weights from published tensors of our names: stages apart, convolutions of single tokens as matrices."""
    out = {}
    for name, weight in weights.items():
        leaf = name.rpartition(".")[2]
        if leaf in _STAGES:
            weight = weight.view(2, -1, weight.shape[-1])
        elif leaf in ("stage_scale", "stage_shift"):
            weight = weight.flatten(1)
        elif weight.dim() == 4:
            weight = weight.flatten(1)
        out[name] = weight
    return out


def himar_configs(
    state: StateDict,
    heads: int | None = None,
    decoder_heads: int | None = None,
    dit_heads: int | None = None,
) -> tuple[HiMARConfig, DiffusionMLPConfig, DiTConfig]:
    """Read the sizes of a published checkpoint.

    Args:
        state: Published tensors.
        heads: Attention heads of the encoder; by default those of the published model of this width.
        decoder_heads: Attention heads of the decoder; by default those of the encoder.
        dit_heads: Attention heads of the DiT head; by default those of the published one of this width.

    Raises:
        ArzooError: Tensors that determine the sizes are missing or have another shape, the tokens of a stage form no
            square, or the number of heads is unknown.
    """
    sizes = Sizes(state, "a checkpoint of Hi-MAR")
    classes, width = sizes.shape("class_emb.weight", 2)
    channels = sizes.shape("z_proj.weight", 2)[1]
    pivots = sizes.shape("cond_tokens", 3)[1]
    size = sizes.shape("diffusion_pos_embed_learned", 3)[1]
    hidden = sizes.shape(f"{_NET}.x_embedder.proj.weight", 4)[0]
    levels = tuple(math.isqrt(count) for count in (pivots, size - pivots))
    if [side * side for side in levels] != [pivots, size - pivots]:
        raise ArzooError(f"{pivots} pivots and {size - pivots} dense tokens are not two squares")
    for number, known, of, name in (
        (heads, HEADS, width, "heads"),
        (dit_heads, _DIT_HEADS, hidden, "dit_heads"),
    ):
        if number is None and of not in known:
            raise ArzooError(
                f"how many attention heads a Hi-MAR has at width {of} is not known (widths "
                f"{', '.join(map(str, known))} are): set {name}"
            )
    heads, dit_heads = heads or HEADS[width], dit_heads or _DIT_HEADS[hidden]
    backbone = HiMARConfig(
        width=width, depth=sizes.count("encoder_blocks"), heads=heads, decoder_depth=sizes.count("decoder_blocks"),
        decoder_heads=decoder_heads or heads,
        mlp_ratio=sizes.shape("encoder_blocks.0.mlp.fc1.weight", 2)[0] / width, channels=channels, levels=levels,
        classes=classes, buffer=sizes.shape("encoder_pos_embed_learned", 3)[1] // 2 - size,
    )  # fmt: skip
    dit = DiTConfig(
        width=width, channels=channels, hidden=hidden, depth=sizes.count(f"{_NET}.blocks"), heads=dit_heads,
        mlp_ratio=sizes.shape(f"{_NET}.blocks.0.mlp.fc1.weight", 2)[0] / hidden, grid=(1, levels[1], levels[1]),
    )  # fmt: skip
    return backbone, sized_mlp_head(sizes, width, channels), dit


def is_himar(state: StateDict) -> bool:
    """Return whether tensors are named like those of Hi-MAR."""
    return "cond_tokens" in state and f"{_NET}.x_embedder.proj.weight" in state


def from_himar(
    state: StateDict,
    heads: int | None = None,
    decoder_heads: int | None = None,
    dit_heads: int | None = None,
    pivot_steps: int | None = None,
    steps: int | None = None,
) -> Conversion:
    """Convert Hi-MAR, "Hierarchical Masked Autoregressive Models with Low-Resolution Token Pivots", 2025.

    Args:
        state: Published tensors.
        heads: See `himar_configs`, also for the next two.
        decoder_heads: Attention heads of the decoder.
        dit_heads: Attention heads of the DiT head.
        pivot_steps: Steps of the pivots; four times the side of their grid is published.
        steps: Steps of the dense tokens; 4 are published, 12 for the largest model.

    Raises:
        ArzooError: As `himar_configs` and `convert.merge`; or the fixed tables of the file are others.
    """
    backbone, head, dit = himar_configs(state, heads, decoder_heads, dit_heads)
    weights = merge(state, himar_table(backbone, head, dit), ignore=_FIXED)
    expected = waves(dit.layout, dit.hidden), torch.zeros(1, dit.layout.size, dit.hidden)
    for name, table in zip(_FIXED, expected, strict=True):
        if (
            name not in state
            or state[name].shape != table.shape
            or not torch.allclose(state[name].float(), table, atol=1e-3)
        ):
            raise ArzooError(
                f"{name!r} is missing, or not the fixed table of every Hi-MAR of this size; the file is of another "
                "model"
            )
    parts = fill(
        {"backbone": backbone.build(), "head": head.build(), "head1": dit.build()}, arranged(weights)
    )
    published = (min(4 * backbone.levels[0], backbone.levels[0] ** 2), sampling.himar_steps(backbone.width))
    counts = [pivot_steps or published[0], steps or published[1]]
    plan = {"name": "pivots", "options": {"steps": counts, "levels": list(backbone.levels)}}
    return Conversion("himar", parts, plan, sampling.himar(backbone.width))
