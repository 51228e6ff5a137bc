"""PAR: published sizes with groups of 4 and of 16 tokens."""

from __future__ import annotations

from arzoo.models.llamagen.presets import register_sizes

register_sizes("par4", "PAR, groups of 4, 1000 classes", extras=3, grid=(1, 24, 24))
register_sizes("par16", "PAR, groups of 16, 1000 classes", extras=15, grid=(1, 24, 24))
