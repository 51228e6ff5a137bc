"""Checkpoints of LlamaGen (class and text), NAR and PAR, which share one layout.

NAR adds one block and a second norm and output (`medusa_*`), for clips two blocks, outputs by the names of three axes
and a table of positions; PAR adds a table of transition inputs. Sizes are read from shapes; the grid and, for widths
that no published model has, the number of heads are arguments.
"""

from __future__ import annotations

import math

from arzoo.base.errors import ArzooError
from arzoo.models.common import sampling
from arzoo.models.common.convert import Conversion, Join, StateDict, fill, merge
from arzoo.models.common.sizes import Sizes
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.llamagen.network import TransformerConfig

STRAY = ("freqs_cis",)
"""Former buffer of the rotary table, which is computed from the grid."""

AXES = ("R", "D", "B")
"""Last letters of the readouts of clips, right, down and back, in the order of the plan `next_neighbor`."""

# (width, blocks before the first readout): heads, where a head is not 64 wide.
_HEADS = {(3200, 24): 32, (4096, 32): 32}


def transformer_table(config: TransformerConfig) -> dict[str, Join]:
    """Map each weight of backbone and head to published tensors, {"backbone.NAME" or "head.NAME": published names}."""
    table = {"backbone.token.weight": Join(("tok_embeddings.weight",))}
    if config.text_width:
        for layer in ("fc1", "fc2"):
            table[f"backbone.condition.{layer}.weight"] = Join((f"cls_embedding.cap_proj.{layer}.weight",))
        table["backbone.condition.null"] = Join(("cls_embedding.uncond_embedding",))
    else:
        table["backbone.condition.table.weight"] = Join(("cls_embedding.embedding_table.weight",))
    if config.absolute_positions:
        table["backbone.places"] = Join(("abs_pe",))
    if config.extras:
        table["backbone.extra.weight"] = Join(("spe_tok_embeddings.special_embeddings.weight",))
    for i in range(config.depth + config.axes - 1):
        ours, theirs = f"backbone.blocks.{i}", f"layers.{i}"
        table |= {
            f"{ours}.norm1.weight": Join((f"{theirs}.attention_norm.weight",)),
            f"{ours}.norm2.weight": Join((f"{theirs}.ffn_norm.weight",)),
            f"{ours}.attention.qkv.weight": Join((f"{theirs}.attention.wqkv.weight",)),
            f"{ours}.attention.proj.weight": Join((f"{theirs}.attention.wo.weight",)),
            f"{ours}.mlp.gate_up.weight": Join(
                tuple(f"{theirs}.feed_forward.{w}.weight" for w in ("w1", "w3"))
            ),
            f"{ours}.mlp.down.weight": Join((f"{theirs}.feed_forward.w2.weight",)),
        }
    norms, outputs = (_readouts(config, layer) for layer in ("norm", "output"))
    table |= {f"head.norms.{i}.weight": Join((norm,)) for i, norm in enumerate(norms)}
    table["head.output.weight"] = Join(outputs, dim=1)
    return table


def _readouts(config: TransformerConfig, layer: str) -> tuple[str, ...]:
    """Return the published names of a layer of every readout."""
    if config.absolute_positions:
        return tuple(f"{layer}_{axis}.weight" for axis in AXES)
    return (f"{layer}.weight", f"medusa_{layer}.weight")[: config.axes]


def transformer_config(
    state: StateDict,
    heads: int | None = None,
    grid: tuple[int, ...] = (16, 16),
    norm_eps: float = 1e-5,
    rope_base: float = 10000.0,
) -> TransformerConfig:
    """Read the sizes of a published checkpoint.

    Args:
        state: Published tensors.
        heads: Attention heads; by default those of the published model of this size, 64 channels each.
        grid: (h, w) or (t, h, w) of the tokens, which the weights do not determine.
        norm_eps: Epsilon of RMSNorm.
        rope_base: Longest rotary wavelength over 2 pi.

    Raises:
        ArzooError: Tensors that determine the sizes are missing or have another shape.
    """
    sizes = Sizes(state, "a checkpoint of LlamaGen, NAR or PAR")
    vocab, width = sizes.shape("tok_embeddings.weight", 2)
    clips = "abs_pe" in state
    axes = len(AXES) if clips else 2 if any(name.startswith("medusa_") for name in state) else 1
    depth = sizes.count("layers") + 1 - axes
    if depth < 1:
        raise ArzooError(
            "not a checkpoint of LlamaGen, NAR or PAR: it has too few tensors named 'layers.N. ...'"
        )
    qkv = sizes.shape("layers.0.attention.wqkv.weight", 2)
    if qkv[0] != 3 * width:
        raise ArzooError(
            f"queries, keys and values must be as wide as the model ({width}), wqkv has shape {qkv}"
        )
    heads = heads or _HEADS.get((width, depth)) or max(width // 64, 1)
    extra, text = "spe_tok_embeddings.special_embeddings.weight", "cls_embedding.uncond_embedding"
    if text in state:
        length, text_width = sizes.shape(text, 2)
        condition = {"classes": 0, "text_width": text_width, "text_length": length}
    else:
        condition = {"classes": sizes.shape("cls_embedding.embedding_table.weight", 2)[0] - 1}
    config = TransformerConfig(
        width=width, depth=depth, heads=heads, vocab=vocab, grid=(1, *grid)[-3:], axes=axes, norm_eps=norm_eps,
        rope_base=rope_base, absolute_positions=clips,
        extras=sizes.shape(extra, 2)[0] if extra in state else 0, **condition,
    )  # fmt: skip
    hidden = sizes.shape("layers.0.feed_forward.w1.weight", 2)[0]
    return config if config.hidden == hidden else config.replace(hidden_width=hidden)


def converted(source: str, state: StateDict, config: TransformerConfig, plan: dict) -> Conversion:
    """Build backbone and head and load published weights into them.

    Args:
        source: Name of the source.
        state: Published tensors.
        config: Settings of the backbone.
        plan: The plan as checkpoints record it.
    """
    weights = merge(state, transformer_table(config), STRAY)
    head = CategoricalConfig(
        width=config.width, vocab=config.vocab, axes=config.axes, norm_eps=config.norm_eps
    )
    parts = fill({"backbone": config.build(), "head": head.build()}, weights)
    return Conversion(source, parts, plan, sampling.codes(source, config.width, bool(config.text_width)))


def is_llamagen(state: StateDict) -> bool:
    """Return whether tensors are named like those of LlamaGen, and not like those of NAR or PAR."""
    return "tok_embeddings.weight" in state and not _relative(state)


def _relative(state: StateDict) -> str:
    """Return the source of weights that have more than those of LlamaGen; empty for LlamaGen."""
    sources = {"nar": is_nar, "nar_video": is_nar_video, "par": is_par}
    return next((name for name, recognised in sources.items() if recognised(state)), "")


def is_nar(state: StateDict) -> bool:
    """Return whether the weights have a second readout."""
    return "medusa_output.weight" in state


def is_nar_video(state: StateDict) -> bool:
    """Return whether the weights have a readout for each of three axes."""
    return all(f"output_{axis}.weight" in state for axis in AXES)


def is_par(state: StateDict) -> bool:
    """Return whether the weights have transition inputs."""
    return "spe_tok_embeddings.special_embeddings.weight" in state


def from_llamagen(
    state: StateDict,
    heads: int | None = None,
    grid: tuple[int, int] = (16, 16),
    norm_eps: float = 1e-5,
    rope_base: float = 10000.0,
) -> Conversion:
    """Convert LlamaGen, "Autoregressive Model Beats Diffusion", 2024, conditional on classes or text.

    Args:
        state: Published tensors.
        heads: See `transformer_config`, also for the last two.
        grid: (h, w) of the tokens; (16, 16) for the 256-pixel models, (24, 24) for 384 and (32, 32) for 512.
        norm_eps: Epsilon of RMSNorm.
        rope_base: Longest rotary wavelength over 2 pi.
    """
    if relative := _relative(state):
        raise ArzooError(f"these are weights of {relative}, not of llamagen")
    config = transformer_config(state, heads, grid, norm_eps, rope_base)
    return converted("llamagen", state, config, {"name": "raster", "options": {}})


def from_nar(
    state: StateDict,
    heads: int | None = None,
    grid: tuple[int, int] = (16, 16),
    norm_eps: float = 1e-5,
    rope_base: float = 10000.0,
) -> Conversion:
    """Convert NAR, "Neighboring Autoregressive Modeling for Efficient Visual Generation", 2025, for images.

    Arguments as those of `from_llamagen`.

    Raises:
        ArzooError: The second readout is missing, as in the LlamaGen file that some instructions link for NAR.
    """
    if not is_nar(state):
        raise ArzooError(
            "weights of NAR have a second readout (medusa_norm, medusa_output), but these do not: "
            "convert them with --layout llamagen, or train the readout"
        )
    config = transformer_config(state, heads, grid, norm_eps, rope_base)
    return converted("nar", state, config, {"name": "next_neighbor", "options": {}})


def from_par(
    state: StateDict,
    heads: int | None = None,
    grid: tuple[int, int] = (24, 24),
    norm_eps: float = 1e-5,
    rope_base: float = 10000.0,
) -> Conversion:
    """Convert PAR, "Parallelized Autoregressive Visual Generation", 2024.

    Arguments as those of `from_llamagen`, but the grid is (24, 24) by default.

    Raises:
        ArzooError: The number of transition inputs is not one less than a square number, or there are none.
    """
    if not is_par(state):
        raise ArzooError("weights of PAR have transition inputs (spe_tok_embeddings), but these do not")
    config = transformer_config(state, heads, grid, norm_eps, rope_base)
    regions = math.isqrt(config.extras + 1)
    if regions * regions != config.extras + 1:
        raise ArzooError(
            f"the number of transition inputs must be one less than a square number of regions, got {config.extras}"
        )
    return converted("par", state, config, {"name": "parallel", "options": {"regions": regions}})
