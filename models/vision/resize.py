"""Exact reimplementations of how published tools resize pictures and frames for their networks.

They are not interchangeable, not even from 256 to 299 pixels ("On Aliased Resizing and Surprising Subtleties in GAN
Evaluation", 2022).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def resize_tf1(x: Tensor, height: int, width: int) -> Tensor:
    """Resize pictures (B, C, H, W) as TensorFlow 1 does by default: bilinear, source = target * (in / out)."""
    for dim, size in ((2, height), (3, width)):
        last = x.shape[dim] - 1
        source = torch.arange(size, device=x.device, dtype=torch.float32) * (x.shape[dim] / size)
        low = source.floor().long().clamp(max=last)
        high = (low + 1).clamp(max=last)
        share = (source - low).view([-1 if i == dim else 1 for i in range(4)])
        first = x.index_select(dim, low)
        x = first + (x.index_select(dim, high) - first) * share
    return x


def resize_half_pixel(x: Tensor, height: int, width: int) -> Tensor:
    """Resize pictures (B, C, H, W) bilinearly with half-pixel centers and without antialiasing."""
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False, antialias=False)


def resize_cropped(x: Tensor, side: int) -> Tensor:
    """Resize the short side of pictures (B, C, H, W) like `resize_half_pixel`, and crop the middle to a square."""
    height, width = x.shape[2:]
    # The longer side is rounded up, so that it is not shorter than the square.
    size = [-(-side * length // min(height, width)) for length in (height, width)]
    top, left = ((length - side) // 2 for length in size)
    return resize_half_pixel(x, *size)[:, :, top : top + side, left : left + side]


def resize_clean(x: Tensor, height: int, width: int) -> Tensor:
    """Resize pictures (B, C, H, W) with the bicubic filter of PIL in floats, clipped to 0..255 but not rounded."""
    small = [np.asarray(_floats(channel).resize((width, height), Image.Resampling.BICUBIC)) for channel in
             x.float().cpu().flatten(0, 1)]  # fmt: skip
    return torch.from_numpy(np.stack(small)).clamp(0, 255).view(*x.shape[:2], height, width).to(x.device)


def _floats(channel: Tensor) -> Image.Image:
    return Image.fromarray(channel.numpy())
