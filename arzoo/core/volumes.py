"""Sides of volumes."""

from __future__ import annotations

Size = tuple[int, int, int]
"""Voxels along z, y and x."""


def in_words(sides: tuple[int, ...]) -> str:
    """Return sides as messages write them."""
    return " x ".join(map(str, sides))
