"""Realism: how much a picture looks like one of the data set rather than a damaged one.

Weights that rate beauty are published, but none lie inside a package. What can be learned here without them is what
damage looks like: a probe tells the training pictures from copies that were blurred, made noisy, or put together from
two pictures. It knows nothing of what is drawn, and sees faults of a generator only as far as they resemble such
damage: `arzoo verifiers calibrate realism` says how far.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

import arzoo.data
from arzoo.base.registry import register
from arzoo.data.transforms import composite
from arzoo.generation.verifiers.probe import Probe, ProbeConfig, train_probe
from arzoo.generation.verifiers.trained import trained_once
from arzoo.generation.verifiers.training import features_of
from arzoo.models.vision.features import DEFAULT, feature_net, pooled
from arzoo.samplers.verifiers.base import PictureVerifier, Subject

_MOST = 1500
"""Largest number of training pictures that are looked at."""


@register("verifier", "realism")
class Realism(PictureVerifier):
    """Log-odds that a picture is real and not damaged: a probe on EfficientNet-Lite0, trained on damaged pictures.

    Args:
        subject: Not looked at.
        data: Data set whose training split the probe learns from.
        net: Registered feature network that looks at the pictures.
        seed: Damage, weights of the probe, and order of the data.
    """

    name = "realism"
    networks = frozenset({DEFAULT})

    def __init__(
        self, subject: Subject | None = None, data: str = "emoji64", net: str = DEFAULT, seed: int = 0
    ) -> None:
        self.networks, self.net = frozenset({net}), feature_net(net)
        self.probe = _trained(ProbeConfig(data=data, net=net, seed=seed))

    def score_images(self, images: Tensor) -> Tensor:
        """Return the log-odds (B,) of pictures (B, H, W, 3) uint8."""
        damaged, real = self.probe(pooled(self.net, images.cpu())).unbind(1)
        return real - damaged


def damaged(images: Tensor, rng: torch.Generator) -> Tensor:
    """Damage pictures (n, H, W, 3) uint8, each in one of three ways.

    Blur with a deviation of 1 to 3 % of the side, noise with a deviation of 8 to 40, or the lower or right half of the
    next picture.
    """
    x = images.permute(0, 3, 1, 2).float()
    kind, strength, flip = (torch.rand(len(x), 1, 1, 1, generator=rng) for _ in range(3))
    noisy = x + (8 + 32 * strength) * torch.randn(x.shape, generator=rng)
    deviations = ((0.01 + 0.02 * strength) * x.shape[2]).flatten().tolist()
    blurred = torch.cat([_blur(x[i : i + 1], deviation) for i, deviation in enumerate(deviations)])
    height, width = torch.arange(x.shape[2])[:, None], torch.arange(x.shape[3])[None]
    half = torch.where(flip < 0.5, height >= x.shape[2] // 2, width >= x.shape[3] // 2)
    mixed = torch.where(half, x.roll(1, 0), x)
    out = torch.where(kind < 1 / 3, noisy, torch.where(kind < 2 / 3, blurred, mixed))
    return out.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _blur(x: Tensor, deviation: float) -> Tensor:
    """Gaussian blur of a picture (1, 3, H, W)."""
    radius = math.ceil(3 * deviation)
    weights = (-(torch.arange(-radius, radius + 1) ** 2) / (2 * deviation**2)).exp()
    weights = (weights / weights.sum()).expand(3, 1, 1, -1)
    x = F.conv2d(F.pad(x, (radius, radius, 0, 0), mode="replicate"), weights, groups=3)
    return F.conv2d(F.pad(x, (0, 0, radius, radius), mode="replicate"), weights.mT, groups=3)


@functools.cache
def _trained(config: ProbeConfig) -> Probe:
    """The probe, trained on first use."""
    data, net = arzoo.data.load(config.data).split("train"), feature_net(config.net)

    def train() -> Probe:
        rng = torch.Generator().manual_seed(config.seed)
        real = composite(data.pixels(torch.randperm(len(data), generator=rng)[:_MOST]))
        features = features_of(net, torch.cat([damaged(real, rng), real]))
        return train_probe(features, torch.arange(2).repeat_interleave(len(real)), 2, config)

    depends = [config.hash(), net.sha256, data.sha256]
    return trained_once("realism", depends, lambda: Probe(net.width, 2), train)
