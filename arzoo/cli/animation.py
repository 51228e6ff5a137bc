"""Animations of `arzoo generate --animate`: lossless WebP, which keeps every color and the settings, or GIF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arzoo.data.picture_files import STEPS
from arzoo.viz.clips import write_clip
from arzoo.viz.grid import legible_zoom

if TYPE_CHECKING:
    from torch import Tensor

FPS, HELD = 8, 16
"""Frames per second, and frames for which the last one stays."""


def animated(name: str, format: str) -> str:
    """Return the name of the animation beside a picture or clip, whose name without an end is given."""
    return f"{name}{STEPS}.{format}"


def write_animation(path: Path, frames: Tensor, settings: dict[str, Any]) -> None:
    """Write frames (F, H, W, 3) uint8, small ones enlarged; the last one is held, then the first one follows again."""
    zoom = legible_zoom(frames.shape[2])
    large = frames.numpy().repeat(zoom, 1).repeat(zoom, 2)
    write_clip(path, np.concatenate([large, large[-1:].repeat(HELD - 1, 0)]), FPS, settings)
