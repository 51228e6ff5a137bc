"""Checkpoints of RAR (B, L, XL and XXL, class-conditional).

Sizes are read from shapes; heads and the grid are arguments.
"""

from __future__ import annotations

from arzoo.base.errors import ArzooError
from arzoo.models.common import sampling
from arzoo.models.common.convert import Conversion, Join, StateDict, fill, merge
from arzoo.models.common.sizes import Sizes
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.rar.network import PREFIX, RARConfig

_TABLES = {
    "token.weight": "embeddings.weight",
    "first": "cls_token",
    "inputs": "pos_embed",
    "targets": "target_aware_pos_embed",
    "places": "timesteps_embeddings",
}
_BLOCK = {
    "norm1": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.norms.0": "attn.q_norm",
    "attention.norms.1": "attn.k_norm",
    "attention.proj": "attn.proj",
    "norm2": "norm2",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
    "modulation": "adaLN_modulation.1",
}


def rar_table(config: RARConfig) -> dict[str, Join]:
    """Map each weight of backbone and head to a published tensor, {"backbone.NAME" or "head.NAME": published name}."""
    table = {f"backbone.{ours}": Join((theirs,)) for ours, theirs in _TABLES.items()}
    layers = {"head.output": "lm_head", "backbone.modulation": "adaln_before_head.adaLN_modulation.1"}
    for i in range(config.depth):
        layers |= {f"backbone.blocks.{i}.{ours}": f"blocks.{i}.{theirs}" for ours, theirs in _BLOCK.items()}
    for ours, theirs in layers.items():
        for kind in ("weight", "bias"):
            table[f"{ours}.{kind}"] = Join((f"{theirs}.{kind}",))
    return table


def is_rar(state: StateDict) -> bool:
    """Return whether tensors are named like those of RAR."""
    return "target_aware_pos_embed" in state


def from_rar(state: StateDict, heads: int = 16, grid: tuple[int, int] = (16, 16)) -> Conversion:
    """Convert RAR, "Randomized Autoregressive Visual Generation", 2024.

    Args:
        state: Published tensors.
        heads: Attention heads; by default those of all published models.
        grid: (h, w) of the tokens.

    Raises:
        ArzooError: Tensors that determine the sizes are missing or have another shape.
    """
    sizes = Sizes(state, "a checkpoint of RAR")
    vocab, width = sizes.shape("lm_head.weight", 2)
    classes = sizes.shape("embeddings.weight", 2)[0] - vocab - 2
    tokens = PREFIX + grid[0] * grid[1]
    unused = [sizes.shape(name, 3)[1] - tokens for name in ("pos_embed", "timesteps_embeddings")]
    if classes < 1 or min(unused) < 0:
        raise ArzooError(
            "weights of RAR have a row of 'embeddings.weight' for each code and class and two more, and a row of their "
            f"tables for each of the {tokens} inputs of a grid of {grid[0]} x {grid[1]} tokens; here {classes} rows "
            f"are left for classes, and {min(unused)} of the smaller table are left over"
        )
    head_width = sizes.shape("blocks.0.attn.q_norm.weight", 1)[0]
    if head_width * heads != width:
        raise ArzooError(
            f"heads are {head_width} wide, so a model of width {width} has {width // head_width}, not {heads}"
        )
    config = RARConfig(
        width=width, depth=sizes.count("blocks"), heads=heads, vocab=vocab, grid=(1, *grid), classes=classes,
        hidden_width=sizes.shape("blocks.0.mlp.fc1.weight", 2)[0], unused_positions=unused[0], unused_places=unused[1],
    )  # fmt: skip
    config = config.replace(hidden_width=0) if config.hidden_width == 4 * width else config
    head = CategoricalConfig(width=width, vocab=vocab, plain=True)
    parts = fill({"backbone": config.build(), "head": head.build()}, merge(state, rar_table(config)))
    return Conversion("rar", parts, {"name": "raster", "options": {}}, sampling.rar(width))
