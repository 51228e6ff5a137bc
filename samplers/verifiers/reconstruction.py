"""Reconstruction: agreement of pixels with a reference picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.registry import register
from arzoo.samplers.verifiers.base import PictureVerifier, Subject

_EQUAL = 100.0


@register("verifier", "reconstruction")
class Reconstruction(PictureVerifier):
    """Peak signal-to-noise ratio to the reference picture, in dB; 100 for equal pictures.

    Args:
        subject: The reference, which is resized to the pictures if it has another size.
    """

    name, needs, range = "reconstruction", frozenset({"reference"}), (0.0, _EQUAL)

    def __init__(self, subject: Subject) -> None:
        self.reference = reference_of(subject)

    def score_images(self, images: Tensor) -> Tensor:
        """Return the ratios (B,) of pictures (B, H, W, 3) uint8."""
        error = (images.double() - like(self.reference, images)).square().mean((1, 2, 3)) / 255**2
        return (-10 * error.clamp(min=10 ** (-_EQUAL / 10)).log10()).float()


def reference_of(subject: Subject) -> Tensor:
    """Return the reference (H, W, 3) uint8 of a subject.

    Raises:
        ArzooError: It is no such picture.
    """
    reference = subject.reference
    if reference is None or reference.dtype != torch.uint8 or reference.dim() != 3 or reference.shape[2] != 3:
        got = "none" if reference is None else f"{reference.dtype} {tuple(reference.shape)}"
        raise ArzooError(f"a reference is a picture (H, W, 3) uint8, got {got}")
    return reference


def like(reference: Tensor, images: Tensor) -> Tensor:
    """Return a reference (H, W, 3) as (1, h, w, 3) of values in 0..255, of the size and device of pictures."""
    x = reference.to(images.device).permute(2, 0, 1)[None].double()
    if x.shape[2:] != images.shape[1:3]:
        size = (images.shape[1], images.shape[2])
        x = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
    return x.permute(0, 2, 3, 1)
