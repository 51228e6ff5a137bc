"""Clips (B, C, T, H, W), the input and output of tokenizers, and still pictures as clips of one frame.

Shapes: B clips, C channels, T frames, H x W pixels.
"""

from __future__ import annotations

from torch import Tensor

from arzoo.base.errors import ArzooError


def as_clips(pictures: Tensor) -> Tensor:
    """Turn still pictures (B, C, H, W) into clips of one frame; clips (B, C, T, H, W) stay as they are."""
    return pictures if pictures.dim() == 5 else pictures[:, :, None]


def require_clips(x: Tensor) -> None:
    """Check that a tensor has the axes of clips with three channels.

    Raises:
        ArzooError: It has others.
    """
    if x.dim() != 5 or x.shape[1] != 3:
        raise ArzooError(
            f"a tokenizer takes clips (B, 3, T, H, W), got {tuple(x.shape)}. A picture (B, 3, H, W) is a clip of "
            "one frame: arzoo.core.clips.as_clips(x)"
        )


def as_pictures(clips: Tensor) -> Tensor:
    """Turn clips of one frame into still pictures (B, C, H, W).

    Raises:
        ArzooError: The clips have more than one frame.
    """
    if clips.shape[2] != 1:
        raise ArzooError(f"a still picture has one frame, these are clips of {clips.shape[2]}")
    return clips[:, :, 0]


def fold_frames(clips: Tensor) -> Tensor:
    """Fold the frames of clips into the batch, (B * T, C, H, W), for networks of still pictures."""
    return clips.transpose(1, 2).flatten(0, 1)


def unfold_frames(frames: Tensor, batch: int) -> Tensor:
    """Turn frames (B * T, C, H, W) into clips, the inverse of `fold_frames`."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)
