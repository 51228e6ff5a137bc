"""Checkpoints of NAR's models of clips, published as llama-abs; those of pictures have the layout of LlamaGen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arzoo.base.errors import ArzooError
from arzoo.models.common.convert import Conversion, StateDict
from arzoo.models.llamagen.convert import AXES, converted, is_nar_video, transformer_config

__all__ = ["from_nar_video", "is_nar_video", "settings_of_file"]

_ARGUMENTS = {"n_head": "heads", "latent_shape": "grid", "norm_eps": "norm_eps"}
"""Our names of published arguments."""


def settings_of_file(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of `from_nar_video` from the arguments of the model that a file holds."""
    return {ours: arguments[theirs] for theirs, ours in _ARGUMENTS.items() if theirs in arguments}


def from_nar_video(
    state: StateDict,
    heads: int | None = None,
    grid: tuple[int, int, int] = (4, 16, 16),
    norm_eps: float = 1e-5,
) -> Conversion:
    """Convert NAR, "Neighboring Autoregressive Modeling for Efficient Visual Generation", 2025, for clips.

    Args:
        state: Published tensors.
        heads: Attention heads; by default those of the published models, 64 channels each.
        grid: (t, h, w) of the tokens; published files do not record the usual one.
        norm_eps: Epsilon of RMSNorm.

    Raises:
        ArzooError: A readout is missing, or the learned positions are not those of the grid and of one class.
    """
    if not is_nar_video(state):
        missing = [name for name in (f"output_{axis}.weight" for axis in AXES) if name not in state]
        raise ArzooError(
            f"weights of NAR for clips have a readout an axis, but these lack {', '.join(missing)}. "
            "Those for pictures are converted with --layout nar."
        )
    config = transformer_config(state, heads, grid, norm_eps)
    places = tuple(state["abs_pe"].shape) if "abs_pe" in state else "none"
    if places != (1, 1 + config.layout.size, config.width):
        raise ArzooError(
            f"{config.layout} of width {config.width} has learned positions (1, 1 + {config.layout.size}, "
            f"{config.width}), one of them the class, but abs_pe is {places}. Set grid=[t,h,w] to that of its tokens."
        )
    return converted("nar_video", state, config, {"name": "next_neighbor", "options": {}})
