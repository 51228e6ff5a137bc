"""Checkpoints of NBP, as Lightning writes them: UCF-101 (texts, hybrid) and Kinetics-600 (frame prediction).

Sizes are read from shapes; the grid, the vocabularies and, where there is no text, the size of a block are arguments.
The frozen tokenizer that training kept beside the model and buffers of masks are left out.
"""

from __future__ import annotations

from arzoo.base.errors import ArzooError
from arzoo.core.layout import Grid
from arzoo.models.common import sampling
from arzoo.models.common.convert import Conversion, Join, StateDict, fill, merge
from arzoo.models.common.sizes import Sizes
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.nbp.network import NBPConfig
from arzoo.models.nbp.presets import SIZES

_BLOCK = {
    "norm1": ("ln1",),
    "attention.qkv": ("attn.query", "attn.key", "attn.value"),
    "attention.proj": ("attn.proj",),
    "norm2": ("ln2",),
    "fc1": ("mlp.0",),
    "fc2": ("mlp.2",),
}
_HEADS = {width: heads for width, _, heads in SIZES.values()}


def nbp_table(config: NBPConfig) -> dict[str, Join]:
    """Map each weight of backbone and head to published tensors, {"backbone.NAME" or "head.NAME": published names}."""
    names = {
        "backbone.token.weight": "tok_emb.weight",
        "backbone.place": "pos_emb",
        "backbone.null": "uncond_embedding",
        "head.output.weight": "head.weight",
    }
    table = {ours: Join((f"transformer.{theirs}",)) for ours, theirs in names.items()}
    layers: dict[str, tuple[str, ...]] = {"head.norms.0": ("ln_f",)}
    for i in range(config.depth):
        for ours, theirs in _BLOCK.items():
            layers[f"backbone.blocks.{i}.{ours}"] = tuple(f"blocks.{i}.{name}" for name in theirs)
    for ours, published in layers.items():
        for kind in ("weight", "bias"):
            table[f"{ours}.{kind}"] = Join(tuple(f"transformer.{name}.{kind}" for name in published))
    return table


def is_nbp(state: StateDict) -> bool:
    """Return whether tensors are named like those of NBP."""
    return "transformer.uncond_embedding" in state and "transformer.pos_emb" in state


def from_nbp(
    state: StateDict,
    heads: int | None = None,
    grid: tuple[int, int, int] = (5, 16, 16),
    block: int = 16,
    vocab: int = 64000,
    text_vocab: int = 32000,
) -> Conversion:
    """Convert NBP, "Next Block Prediction: Video Generation via Semi-Autoregressive Modeling", 2025.

    Args:
        state: Published tensors.
        heads: Attention heads; by default those of the published model of this width.
        grid: (t, h, w) of the tokens.
        block: Tokens per block; models of texts tell it by the size of their vocabulary.
        vocab: Codes of the tokenizer; models without a condition tell it by the size of their vocabulary.
        text_vocab: Ids of the text tokenizer.

    Raises:
        ArzooError: Tensors that determine the sizes are missing or have another shape, or the sizes do not agree.
    """
    sizes = Sizes(state, "a checkpoint of NBP")
    ids, width = sizes.shape("transformer.tok_emb.weight", 2)
    length = sizes.shape("transformer.uncond_embedding", 2)[0]
    heads = heads or _HEADS.get(width)
    if heads is None:
        raise ArzooError(f"no published model is {width} wide: say how many attention heads it has (heads)")
    condition: dict[str, int] = {}
    if length:
        block = ids - text_vocab - vocab
        condition = {"text_vocab": text_vocab, "text_length": length, "extras": block - 1}
    positions = Grid(*grid).size
    if block < 1 or positions % block:
        raise ArzooError(
            f"blocks of {block} tokens do not divide a grid of {positions}"
            + (
                f"; {ids} ids are those of a text ({text_vocab}), codes ({vocab}) and a block"
                if length
                else ""
            )
            + ". Say the grid"
            + (", vocab and text_vocab" if length else " and the block")
            + " of the model."
        )
    config = NBPConfig(
        width=width, depth=sizes.count("transformer.blocks"), heads=heads, vocab=vocab if length else ids, grid=grid,
        positions=sizes.shape("transformer.pos_emb", 3)[1], **condition,
    )  # fmt: skip
    head = CategoricalConfig(width=width, vocab=config.vocab, layer_norm=True, shift=config.shift)
    stray = tuple(name for name in state if name.startswith("first_stage_model.") or "mask" in name)
    weights = merge(state, nbp_table(config), stray)
    parts = fill({"backbone": config.build(), "head": head.build()}, weights)
    plan = {"name": "next_block", "options": {"size": block, "hybrid": bool(length)}}
    text = "llama2_ids" if length else ""
    return Conversion("nbp", parts, plan, sampling.NBP, text=text)
