"""What tokenizers of still pictures of one size share: the door, and the range of published networks."""

from __future__ import annotations

from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.clips import as_pictures


def pictures_of(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Still pictures (B, 3, H, W) of clips (B, 3, 1, H, W).

    Raises:
        ArzooError: They are of another size, have more frames or other channels.
    """
    if x.dim() != 5 or x.shape[1] != 3 or tuple(x.shape[3:]) != size:
        height, width = size
        raise ArzooError(
            f"this tokenizer takes pictures (B, 3, 1, {height}, {width}), got {tuple(x.shape)}. Resize or crop them; a "
            "picture (B, 3, H, W) is a clip of one frame: arzoo.core.clips.as_clips(x)"
        )
    return as_pictures(x)


def to_unit(pictures: Tensor) -> Tensor:
    """Values in [0, 1] of values in [-1, 1]."""
    return (pictures + 1) / 2
