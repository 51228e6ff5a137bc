"""Files of drawn pictures and clips: numbered, one each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from arzoo.base.errors import ArzooError
from arzoo.viz.clips import write_clip

if TYPE_CHECKING:
    from torch import Tensor


def save(
    images: Tensor | np.ndarray | Sequence[Any], folder: str | Path, overwrite: bool = False, fps: float = 8.0
) -> list[Path]:
    """Write pictures as numbered PNGs, and clips as numbered WebP animations, both without any loss.

    Args:
        images: (n, H, W, 3) uint8, or clips (n, T, H, W, 3) as generators draw them; those of one frame are pictures.
            A list of PIL images is fine too.
        folder: Where to; made if absent.
        overwrite: Replace files that exist.
        fps: Frames per second of clips.

    Returns:
        The files.

    Raises:
        ArzooError: The shape or type is another one, a file exists, or no animation has so many frames per second.
    """
    clips = np.asarray(images.cpu() if hasattr(images, "cpu") else images)
    if clips.ndim == 4:
        clips = clips[:, None]
    if clips.ndim != 5 or clips.shape[-1] != 3 or clips.dtype != np.uint8:
        raise ArzooError(
            f"pictures must be (n, H, W, 3) uint8, or clips (n, T, H, W, 3); got {clips.shape} {clips.dtype}"
        )
    still = clips.shape[1] == 1
    files = [Path(folder) / f"{i:04d}.{'png' if still else 'webp'}" for i in range(len(clips))]
    taken = next((path for path in files if path.exists()), None)
    if taken is not None and not overwrite:
        raise ArzooError(f"{taken} exists. Give another folder, or overwrite=True.")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for path, clip in zip(files, clips, strict=True):
        if still:
            Image.fromarray(clip[0]).save(path)
        else:
            write_clip(path, clip, fps)
    return files
