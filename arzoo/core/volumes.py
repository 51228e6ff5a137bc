"""Sides of volumes."""

from __future__ import annotations

from collections.abc import Sequence

Size = tuple[int, int, int]
"""Voxels along z, y and x."""


def in_words(sides: Sequence[float]) -> str:
    """Return sides as messages write them."""
    return " x ".join(str(side) if isinstance(side, int) else f"{side:g}" for side in sides)
