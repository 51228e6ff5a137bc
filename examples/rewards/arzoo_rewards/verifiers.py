"""ImageReward, HPSv2 and PickScore: how well a picture shows what a prompt says, as people judged.

ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation, 2023; Human Preference Score v2,
2023; Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image Generation, 2023. None of them was run here with
its real weights.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.generation.verifiers.clip import PairVerifier
from arzoo.samplers.verifiers.base import PictureVerifier, Subject

PROMPT = frozenset({"prompt"})


class ImageReward(PictureVerifier):
    """ImageReward 1.0, about -2 to 2; `source` may be a file of its weights."""

    name, needs, networks = "image_reward", PROMPT, frozenset({"ImageReward-v1.0"})

    def __init__(self, subject: Subject, source: str = "ImageReward-v1.0") -> None:
        self.prompt, self.networks, self.net = subject.prompt, frozenset({source}), reward_net(source)

    @torch.no_grad()
    def score_images(self, images: Tensor) -> Tensor:
        """Return the rewards (B,) of pictures (B, H, W, 3) uint8."""
        # One by one: of a list of one picture it returns a number instead of a list.
        return torch.tensor([float(self.net.score(self.prompt, picture)) for picture in pictures(images)])


class HPSv2(PictureVerifier):
    """Human Preference Score v2, about 0.2 to 0.35; its package reads the weights anew for every comparison."""

    name, needs, networks = "hpsv2", PROMPT, frozenset({"hpsv2"})

    def __init__(self, subject: Subject, version: str = "v2.1") -> None:
        self.prompt, self.version, self.package = subject.prompt, version, package("hpsv2", "hpsv2")

    def score_images(self, images: Tensor) -> Tensor:
        """Return the scores (B,) of pictures (B, H, W, 3) uint8."""
        scores = self.package.score(pictures(images), self.prompt, hps_version=self.version)
        return torch.tensor([float(score) for score in scores])


class PickScore(PairVerifier):
    """PickScore, about 17 to 24: the cosine in a CLIP that was trained on preferences, times its temperature."""

    name, kind, range = "pickscore", "clip", PictureVerifier.range
    networks = frozenset({"yuvalkirstain/PickScore_v1"})

    def __init__(self, subject: Subject, source: str = "yuvalkirstain/PickScore_v1") -> None:
        super().__init__(subject, source)

    def score_images(self, images: Tensor) -> Tensor:
        """Return the scores (B,) of pictures (B, H, W, 3) uint8."""
        return super().score_images(images) * self.net.logit_scale.exp().cpu()


def pictures(images: Tensor) -> list[Image.Image]:
    """Return pictures (B, H, W, 3) uint8 as such packages take them."""
    return [Image.fromarray(image.numpy()) for image in images.cpu()]


@functools.cache
def reward_net(source: str) -> Any:
    """Return the network of ImageReward, which is read once."""
    return package("ImageReward", "image-reward").load(source)


def package(name: str, distribution: str) -> Any:
    """Import a package.

    Raises:
        ArzooError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ArzooError(
            f"this verifier needs the package {name} ({error}): pip install {distribution}, in an environment of its "
            "own, because it pins old versions of others"
        ) from error
