"""The verifier `symmetry`: how much the left half of a picture looks like the right one."""

from __future__ import annotations

from torch import Tensor

from arzoo.samplers.verifiers.base import PictureVerifier, Subject


class Symmetry(PictureVerifier):
    """Agreement of a picture with its mirror image, 1 for equal ones."""

    name, range = "symmetry", (0.0, 1.0)

    def __init__(self, subject: Subject, power: float = 1.0) -> None:
        self.power = power

    def score_images(self, images: Tensor) -> Tensor:
        """Return the agreements (B,) of pictures (B, H, W, 3) uint8."""
        difference = (images.float() - images.flip(2).float()).abs().mean((1, 2, 3)) / 255
        return (1 - difference) ** self.power
