"""Clips (B, C, T, H, W), the input and output of tokenizers, and still pictures as clips of one frame.

Shapes: B clips, C channels, T frames, H x W pixels.
"""

from __future__ import annotations

from torch import Tensor

from arzoo.base.errors import ArzooError


def as_clips(pictures: Tensor) -> Tensor:
    """Turn still pictures (B, C, H, W) into clips of one frame; clips (B, C, T, H, W) stay as they are."""
    return pictures if pictures.dim() == 5 else pictures[:, :, None]


def as_pictures(clips: Tensor) -> Tensor:
    """Turn clips of one frame into still pictures (B, C, H, W).

    Raises:
        ArzooError: The clips have more than one frame.
    """
    if clips.shape[2] != 1:
        raise ArzooError(f"a still picture has one frame, these are clips of {clips.shape[2]}")
    return clips[:, :, 0]


def require_side(size: tuple[int, int], least: int, what: str, remedy: str) -> None:
    """Refuse pictures or frames that are too small for a network.

    Args:
        size: Their height and width.
        least: The smallest side that the network takes.
        what: What the network is, for the message.
        remedy: What to do, for the message.

    Raises:
        ArzooError: A side is smaller.
    """
    if min(size) < least:
        raise ArzooError(
            f"pictures of {size[0]} x {size[1]} pixels are too small for {what}, which takes sides of at least {least} "
            f"pixels. {remedy}"
        )


def fold_frames(clips: Tensor) -> Tensor:
    """Fold the frames of clips into the batch, (B * T, C, H, W), for networks of still pictures."""
    return clips.transpose(1, 2).flatten(0, 1)


def unfold_frames(frames: Tensor, batch: int) -> Tensor:
    """Turn frames (B * T, C, H, W) into clips, the inverse of `fold_frames`."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)


def sizes_in_words(size: tuple[int, int], frames: int) -> str:
    """Return what pictures of (H, W) pixels, or clips of so many frames, are, as a text."""
    return f"{'pictures' if frames == 1 else f'clips of {frames} frames'}, {size[1]} x {size[0]} pixels"
