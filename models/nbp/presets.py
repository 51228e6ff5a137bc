"""NBP: a model that trains on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.models.llamagen.presets import raster_tiny


@register("backbone")
def nbp_clip_tiny() -> TransformerConfig:
    """Next-block model for 5 x 8 x 8 tokens that trains on a CPU, for the plan next_block with hybrid=true.

    The network is that of LlamaGen: rotary positions in three axes need no table of places in the sequence, and the
    learned transition inputs (one less than the tokens of a block; here a row) are those of PAR.
    """
    return raster_tiny().replace(vocab=1000, grid=(5, 8, 8), extras=7)
