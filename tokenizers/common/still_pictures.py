"""Helpers of tokenizers for still pictures of one size: the check of the input, and the range of published networks."""

from __future__ import annotations

from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.clips import as_pictures


def pictures_of(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Check clips (B, 3, 1, H, W) and return them as still pictures (B, 3, H, W).

    Raises:
        ArzooError: Size, number of frames or number of channels is another.
    """
    if x.dim() != 5 or x.shape[1] != 3 or tuple(x.shape[3:]) != size:
        height, width = size
        raise ArzooError(
            f"this tokenizer takes pictures (B, 3, 1, {height}, {width}), got {tuple(x.shape)}. Resize or crop them; a "
            "picture (B, 3, H, W) is a clip of one frame: arzoo.core.clips.as_clips(x)"
        )
    return as_pictures(x)


def to_unit(pictures: Tensor) -> Tensor:
    """Map values from [-1, 1] to [0, 1]."""
    return (pictures + 1) / 2
