"""Likeness to a reference picture in the features of a frozen network."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from arzoo.base.registry import register
from arzoo.data.transforms import to_model
from arzoo.samplers.verifiers.base import PictureVerifier, Subject
from arzoo.samplers.verifiers.reconstruction import like, reference_of
from arzoo.tokenizers.common.perceptual import PerceptualDistance

NET = "squeezenet"


@register("verifier", "reference")
class Reference(PictureVerifier):
    """Likeness to the reference picture: minus the perceptual distance in features of SqueezeNet.

    "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018, without its calibration.

    Args:
        subject: The reference, which is resized to the pictures if it has another size.
    """

    name, needs, range = "reference", frozenset({"reference"}), (-math.inf, 0.0)
    networks = frozenset({NET})

    def __init__(self, subject: Subject) -> None:
        self.reference, self.distance = reference_of(subject), _distance()

    @torch.no_grad()
    def score_images(self, images: Tensor) -> Tensor:
        """Return minus the distances (B,) of pictures (B, H, W, 3) uint8.

        Raises:
            ArzooError: They are too small for the network.
        """
        images = images.cpu()
        self.distance.require(
            (images.shape[1], images.shape[2]), "Choose another verifier, such as reconstruction."
        )
        reference = like(self.reference, images).round().to(torch.uint8)
        return -self.distance(to_model(images), to_model(reference).expand(len(images), -1, -1, -1))


_distance = functools.cache(functools.partial(PerceptualDistance, NET))
