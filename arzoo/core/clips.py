"""Clips (B, C, T, H, W): what tokenizers take and give. A still picture is a clip of one frame, here and nowhere else.

Shapes: B clips, C channels, T frames, H x W pixels.
"""

from __future__ import annotations

from torch import Tensor

from arzoo.base.errors import ArzooError


def as_clips(pictures: Tensor) -> Tensor:
    """Still pictures (B, C, H, W) as clips of one frame."""
    return pictures[:, :, None]


def as_pictures(clips: Tensor) -> Tensor:
    """Clips of one frame as still pictures (B, C, H, W).

    Raises:
        ArzooError: They have more than one frame.
    """
    if clips.shape[2] != 1:
        raise ArzooError(f"a still picture has one frame, these are clips of {clips.shape[2]}")
    return clips[:, :, 0]


def fold_frames(clips: Tensor) -> Tensor:
    """The frames (B * T, C, H, W) of clips, for networks of still pictures."""
    return clips.transpose(1, 2).flatten(0, 1)


def unfold_frames(frames: Tensor, batch: int) -> Tensor:
    """Clips of frames (B * T, C, H, W), the inverse of `fold_frames`."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)
