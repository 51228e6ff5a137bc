"""A data set of clips on which a training of a minute learns something."""

from __future__ import annotations

import torch

from arzoo.data.base import ImageSet

FRAMES = 5


def moving_squares() -> ImageSet:
    """Forty clips of 5 frames of 32 x 32 of two classes: a square that moves to the right, or down."""
    rng, labels = torch.Generator().manual_seed(0), torch.arange(40) % 2
    images = torch.zeros(40, FRAMES, 32, 32, 3, dtype=torch.uint8)
    for clip, label in zip(images, labels.tolist(), strict=True):
        x, y = torch.randint(0, 16, (2,), generator=rng).tolist()
        colour = torch.randint(100, 256, (3,), generator=rng, dtype=torch.uint8)
        for t, frame in enumerate(clip):
            top, left = y + 2 * t * label, x + 2 * t * (1 - label)
            frame[top : top + 8, left : left + 8] = colour
    return ImageSet("squares", images, labels, ("right", "down"), torch.arange(40) >= 32, fps=12.0)
