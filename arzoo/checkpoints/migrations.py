"""What older versions wrote, read by this one.

Version 0.1 kept classes in other modules; a checkpoint names the class of each part by its module, so the old names go
on working.
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
    "arzoo.models.heads.DepthConfig": "arzoo.models.heads.categorical.DepthConfig",
    "arzoo.models.diffusion_head.DiffusionMLPConfig": "arzoo.models.heads.diffusion.DiffusionMLPConfig",
    "arzoo.models.flow_heads.BackboneFlowConfig": "arzoo.models.heads.flow.BackboneFlowConfig",
    "arzoo.models.flow_heads.FlowMLPConfig": "arzoo.models.heads.flow.FlowMLPConfig",
    "arzoo.models.flow_net.FlowNetConfig": "arzoo.models.heads.flow_net.FlowNetConfig",
    "arzoo.tokenizers.grid_vq.VQTokenizerConfig": "arzoo.tokenizers.vq.network.VQTokenizerConfig",
    "arzoo.tokenizers.grid_kl.KLTokenizerConfig": "arzoo.tokenizers.kl.network.KLTokenizerConfig",
}
"""Class of a part's settings: as version 0.1 names it, and where it is now."""


LAST_TIMESTEP = 999
"""What version 0.1 called pure noise in the interval of a diffusion head; flow heads had shares of noise already."""


def controls(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Knobs with their interval in shares of noise."""
    pair = stored.get("interval")
    if not (
        isinstance(pair, list) and all(type(x) in (int, float) for x in pair) and max(pair, default=0) > 1
    ):
        return dict(stored)
    return {**stored, "interval": [min(x / LAST_TIMESTEP, 1.0) for x in pair]}


def class_path(stored: str) -> str:
    """Where the class of a part's settings is now."""
    return CLASSES.get(stored, stored)
