"""Conversion of pictures to model inputs and back, and the augmentation of drawings and photographs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from arzoo.base.finite import warn_of_not_finite
from arzoo.core.clips import unfold_frames
from arzoo.data.augmentation import Augment


def to_model(images: Tensor) -> Tensor:
    """Convert uint8 (B, H, W, 3) to float (B, 3, H, W) in [-1, 1], and clips (B, T, H, W, 3) to (B, 3, T, H, W)."""
    return images.movedim(-1, 1).float().div(127.5).sub(1)


def to_uint8(x: Tensor) -> Tensor:
    """Invert `to_model`: clamp floats to [-1, 1] and round them to uint8.

    Warns:
        NotANumber: A picture holds nan or infinity; nan becomes black.
    """
    warn_of_not_finite(x)
    return (
        x.float()
        .nan_to_num(-1)
        .add(1)
        .mul(127.5)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        .movedim(1, -1)
        .contiguous()
    )


def composite(images: Tensor) -> Tensor:
    """Lay pictures with opacity on white.

    Args:
        images: (B, H, W, 3 or 4) uint8; pictures of three channels are returned unchanged.

    Returns:
        (B, H, W, 3) uint8.
    """
    if images.shape[-1] == 3:
        return images
    colour, opacity = images[..., :3].float(), images[..., 3:].float() / 255
    return (colour * opacity + 255.0 * (1 - opacity)).round().to(torch.uint8)


def augment(images: Tensor, mirrorable: Tensor, uniform: Tensor, policy: Augment) -> Tensor:
    """Vary the position, size, direction and background of pictures, or of clips, whose frames all vary alike.

    What a smaller or moved picture does not cover shows the background if it has opacity, otherwise the pixels of its
    nearest edge.

    Args:
        images: (B, H, W, 3 or 4) uint8, on any device; clips are (B, T, H, W, 3).
        mirrorable: (B,) bool, pictures that may be mirrored.
        uniform: (B, 9) random numbers in (0, 1).
        policy: Settings of the augmentation.

    Returns:
        Float (B, 3, H, W) in [-1, 1]; clips are (B, 3, T, H, W).
    """
    if images.dim() == 5:
        batch, frames = images.shape[:2]
        mirrorable, uniform = (of_clip.repeat_interleave(frames, 0) for of_clip in (mirrorable, uniform))
        return unfold_frames(augment(images.flatten(0, 1), mirrorable, uniform, policy), batch)
    batch = len(images)
    device = images.device
    draw, mirrorable = uniform.to(device), mirrorable.to(device)
    x = images.permute(0, 3, 1, 2).float() / 255
    has_opacity = x.shape[1] == 4
    if has_opacity:
        opacity = x[:, 3:]
        x = torch.cat([x[:, :3] * opacity, opacity], 1)
    low, high = policy.scale
    scale = torch.where(draw[:, 8] < policy.resize, low + (high - low) * draw[:, 0], 1.0)
    flip = torch.where((draw[:, 7] < policy.mirror) & mirrorable, -1.0, 1.0)
    sides = torch.tensor([images.shape[2], images.shape[1]], device=device)  # x, y as the grid has them
    shift = ((draw[:, 1:3] * 2 - 1) * policy.shift * sides).round() * 2 / sides
    # The grid maps output to input, so dividing by the scale enlarges; offsets are in units of half a side.
    theta = torch.zeros(batch, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1] = flip / scale, 1 / scale
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    outside = "zeros" if has_opacity else "border"
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode=outside, align_corners=False)
    if not has_opacity:
        return x * 2 - 1
    colour, opacity = x[:, :3], x[:, 3:]
    under = torch.where((draw[:, 3] < policy.background)[:, None], draw[:, 4:7] ** 0.5, 1.0)
    return (colour + under[:, :, None, None] * (1 - opacity)) * 2 - 1
