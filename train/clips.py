"""Clips in training: a frame of each for networks of pictures, their place in memory, and sheets for previews."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn

from arzoo.viz.clips import clip_sheet
from arzoo.viz.grid import contact_sheet

SHOWN = 6
"""Clips of a preview; each is a row of frames."""
LEVELS_OF = 8
"""Number of pictures of which previews show every level of a pyramid."""


def noun(frames: int) -> str:
    """What clips of so many frames are called."""
    return "picture" if frames == 1 else "clip"


def one_frame(x: Tensor, rebuilt: Tensor) -> tuple[Tensor, Tensor]:
    """Return a random frame (B, 3, H, W) of every clip (B, 3, T, H, W), and the same one of its reconstruction.

    Still pictures (B, 3, H, W) are returned as they are. Perceptual and adversarial losses of clips see one frame of
    each, as in TATS ("Long Video Generation with Time-Agnostic VQGAN and Time-Sensitive Transformer", 2022).
    """
    if x.dim() == 4:
        return x, rebuilt
    # In a training step normal numbers follow from the samples, see `arzoo.train.noise`, and integers do not.
    frame = torch.randn_like(x[:, 0, :, 0, 0]).argmax(1)
    rows = torch.arange(len(x), device=x.device)
    return x[rows, :, frame], rebuilt[rows, :, frame]


def channels_last(module: nn.Module) -> nn.Module:
    """Store the weights of convolutions in the order of channels, which is faster; returns the module."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() in (4, 5):
            tensor.data = tensor.data.contiguous(memory_format=_order(tensor))
    return module


def in_channel_order(x: Tensor) -> Tensor:
    """Return pictures (B, C, H, W) or clips (B, C, T, H, W) in the order of channels; so are the clips' frames."""
    return x.contiguous(memory_format=_order(x))


def _order(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.dim() == 4 else torch.channels_last_3d


def sheet(clips: Tensor, columns: int, captions: Sequence[str] | None = None) -> Image.Image:
    """Arrange pictures, clips (n, 1, H, W, 3) uint8 of one frame, in columns; or clips in rows of their frames."""
    if clips.shape[1] == 1:
        return contact_sheet(clips[:, 0], columns=columns, captions=captions)
    return clip_sheet(clips, captions=captions)
