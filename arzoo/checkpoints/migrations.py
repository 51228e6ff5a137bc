"""Migrations of checkpoints that older versions wrote.

Version 0.1 kept classes in other modules; a checkpoint names the class of each part by its module, so the old names are
mapped to the present ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLASSES = {
    "arzoo.models.transformer.TransformerConfig": "arzoo.models.llamagen.network.TransformerConfig",
    "arzoo.models.mar.MARConfig": "arzoo.models.mar.network.MARConfig",
    "arzoo.models.xar.XARConfig": "arzoo.models.xar.network.XARConfig",
    "arzoo.models.flowar.FlowARConfig": "arzoo.models.flowar.network.FlowARConfig",
    "arzoo.models.heads.CategoricalConfig": "arzoo.models.heads.categorical.CategoricalConfig",
    "arzoo.models.heads.DepthConfig": "arzoo.models.heads.depth.DepthConfig",
    "arzoo.models.heads.categorical.DepthConfig": "arzoo.models.heads.depth.DepthConfig",
    "arzoo.models.diffusion_head.DiffusionMLPConfig": "arzoo.models.heads.diffusion.DiffusionMLPConfig",
    "arzoo.models.flow_heads.BackboneFlowConfig": "arzoo.models.heads.flow.BackboneFlowConfig",
    "arzoo.models.flow_heads.FlowMLPConfig": "arzoo.models.heads.flow.FlowMLPConfig",
    "arzoo.models.flow_net.FlowNetConfig": "arzoo.models.heads.flow_net.FlowNetConfig",
    "arzoo.tokenizers.grid_vq.VQTokenizerConfig": "arzoo.tokenizers.vq.network.VQTokenizerConfig",
    "arzoo.tokenizers.grid_kl.KLTokenizerConfig": "arzoo.tokenizers.kl.network.KLTokenizerConfig",
}
"""Config class of a part: its name in version 0.1, and its present name."""


LAST_TIMESTEP = 999
"""Pure noise in the interval of a diffusion head in version 0.1; flow heads already used shares of noise."""


def controls(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return knobs with their interval in shares of noise."""
    pair = stored.get("interval")
    if not (
        isinstance(pair, list) and all(type(x) in (int, float) for x in pair) and max(pair, default=0) > 1
    ):
        return dict(stored)
    return {**stored, "interval": [min(x / LAST_TIMESTEP, 1.0) for x in pair]}


def class_path(stored: str) -> str:
    """Return the present name of a part's config class."""
    return CLASSES.get(stored, stored)
