"""Animations of `arzoo generate --animate`: animated PNGs, which keep every colour and the settings of the picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from arzoo.viz.settings import write_png

if TYPE_CHECKING:
    from torch import Tensor

ANIMATED = ".apng"
"""Ending of their names, by which they are not read as pictures."""
FRAME, HELD = 120, 2000
"""Milliseconds that a frame and the last frame are shown."""


def animated(name: str) -> str:
    """Return the name of the animation beside a picture."""
    return name.removesuffix(".png") + ANIMATED


def write_animation(path: Path, frames: Tensor, settings: dict[str, Any]) -> None:
    """Write frames (F, H, W, 3) uint8; the last one is held, then the first one follows again."""
    from PIL import Image

    first, *rest = map(Image.fromarray, frames.numpy())
    duration = [FRAME] * len(rest) + [HELD]
    write_png(path, first, settings, save_all=True, append_images=rest, duration=duration, loop=0)
