"""Checkpoints of TiTok's generators with BERT's network ("MaskGIT-ViT"), in the layout of Hugging Face.

Sizes are read from shapes; heads and a grid are arguments. Names may have a prefix, such as "model.".
"""

from __future__ import annotations

from arzoo.base.errors import ArzooError
from arzoo.models.common import sampling
from arzoo.models.common.convert import Conversion, Join, StateDict, fill, merge
from arzoo.models.common.sizes import Sizes
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.maskgit.network import MaskGITConfig

_WORDS = "embeddings.word_embeddings.weight"
_BLOCK = {
    "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.proj": ("attention.output.dense",),
    "norm1": ("attention.output.LayerNorm",),
    "fc1": ("intermediate.dense",),
    "fc2": ("output.dense",),
    "norm2": ("output.LayerNorm",),
}


def maskgit_table(
    config: MaskGITConfig, prefix: str = "model.", head: str = "model.lm_head"
) -> dict[str, Join]:
    """Map each weight of backbone and head to published tensors, {"backbone.NAME" or "head.NAME": published names}.

    Args:
        config: Sizes of the network.
        prefix: Text before the names of BERT's tensors.
        head: Name of the output layer.
    """
    table = {
        f"backbone.{ours}.weight": Join((f"{prefix}embeddings.{theirs}_embeddings.weight",))
        for ours, theirs in (("token", "word"), ("position", "position"), ("kind", "token_type"))
    }
    layers: dict[str, tuple[str, ...]] = {
        "backbone.norm": (f"{prefix}embeddings.LayerNorm",),
        "head.output": (head,),
    }
    for i in range(config.depth):
        for ours, theirs in _BLOCK.items():
            layers[f"backbone.blocks.{i}.{ours}"] = tuple(
                f"{prefix}encoder.layer.{i}.{name}" for name in theirs
            )
    for ours, names in layers.items():
        for kind in ("weight", "bias"):
            table[f"{ours}.{kind}"] = Join(tuple(f"{name}.{kind}" for name in names))
    return table


def is_maskgit(state: StateDict) -> bool:
    """Return whether tensors are named like those of BERT with an output layer."""
    return any(name.endswith(_WORDS) for name in state) and any(
        name.endswith("lm_head.weight") for name in state
    )


def from_maskgit(state: StateDict, heads: int = 16, grid: tuple[int, int] | None = None) -> Conversion:
    """Convert a generator of "An Image is Worth 32 Tokens for Reconstruction and Generation" (TiTok), 2024.

    Args:
        state: Published tensors.
        heads: Attention heads; by default those of the published models.
        grid: (h, w) of tokens that have a grid; None is a sequence of as many tokens as there are positions.

    Raises:
        ArzooError: Tensors that determine the sizes are missing or have another shape.
    """
    if not is_maskgit(state):
        raise ArzooError(
            f"not a generator of TiTok with BERT's network: it has no '{_WORDS}' or no 'lm_head.weight'"
        )
    prefix = next(name for name in state if name.endswith(_WORDS)).removesuffix(_WORDS)
    head_name = next(name for name in state if name.endswith("lm_head.weight")).removesuffix(".weight")
    sizes = Sizes(state, "a generator of TiTok with BERT's network")
    vocab, width = sizes.shape(f"{head_name}.weight", 2)
    classes = sizes.shape(prefix + _WORDS, 2)[0] - vocab - 2
    tokens = sizes.shape(f"{prefix}embeddings.position_embeddings.weight", 2)[0] - 1
    if classes < 1:
        raise ArzooError(
            f"the table of tokens has a row for each of the {vocab} codes, the mask, each class and the null class; "
            f"here {classes} rows are left for classes"
        )
    hidden = sizes.shape(f"{prefix}encoder.layer.0.intermediate.dense.weight", 2)[0]
    config = MaskGITConfig(
        width=width, depth=sizes.count(f"{prefix}encoder.layer"), heads=heads, vocab=vocab,
        grid=(1, *(grid or (1, tokens))), classes=classes, hidden_width=0 if hidden == 4 * width else hidden,
    )  # fmt: skip
    head = CategoricalConfig(width=width, vocab=vocab, plain=True)
    table = maskgit_table(config, prefix, head_name)
    weights = merge(state, table, (f"{prefix}embeddings.position_ids",))
    parts = fill({"backbone": config.build(), "head": head.build()}, weights)
    plan = {"name": "confident", "options": {"steps": min(8, tokens)}}
    return Conversion("maskgit", parts, plan, sampling.maskgit(tokens))
