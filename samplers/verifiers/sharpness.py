"""Sharpness: a score that is bad on purpose."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from arzoo.base.registry import register
from arzoo.samplers.verifiers.base import PictureVerifier, Subject


@register("verifier", "sharpness")
class Sharpness(PictureVerifier):
    """Standard deviation of the Laplacian of the gray picture; a bad verifier on purpose: noise is the sharpest.

    It knows nothing of what is drawn. A search that it steers shows what happens to pictures whose verifier is fooled.

    Args:
        subject: Not looked at.
    """

    name, range = "sharpness", (0.0, math.inf)

    def __init__(self, subject: Subject | None = None) -> None:
        pass

    def score_images(self, images: Tensor) -> Tensor:
        """Return the sharpness (B,) of pictures (B, H, W, 3) uint8, in grey levels of 0..255."""
        grey = images.float().mean(3)[:, None]
        kernel = grey.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
        edged = F.pad(grey, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(edged, kernel[None, None]).flatten(1).std(1, correction=0)
