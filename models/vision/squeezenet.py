"""SqueezeNet 1.1 as a feature network: the second one whose weights come inside a package."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from arzoo.base.files import file_sha256
from arzoo.base.registry import register
from arzoo.models.vision.features import FeatureNet, Features
from arzoo.models.vision.perceptual import SqueezeNet, packaged_squeezenet

_SIDE = 128


class PooledSqueezeNet(FeatureNet):
    """Means of the features of seven layers, and the largest values of the last one.

    Pooled features of the last layer alone say much less of drawings: early layers know colors and textures.

    Raises:
        MissingPackage: `ndf`, which holds the weights, is not installed.
        ArzooError: The file contains other weights.
    """

    name = "squeezenet"
    resize = f"{_SIDE}x{_SIDE} bilinear antialias"
    scaling = "x - mean, of blue, green and red"
    width = 2752

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        file = Path(path) if path else packaged_squeezenet()
        self.sha256 = file_sha256(file)
        self.net = SqueezeNet(file).to(memory_format=torch.channels_last)

    def read(self, x: Tensor) -> Features:
        """Compute the features of pictures (B, 3, H, W) in 0..255."""
        x = F.interpolate(x, size=(_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False)
        layers = self.net.features(x / 127.5 - 1)
        return Features(torch.cat([*(layer.mean((2, 3)) for layer in layers), layers[-1].amax((2, 3))], 1))


@register("feature_net")
def squeezenet(path: str | None = None) -> FeatureNet:
    """SqueezeNet 1.1 with ImageNet weights from an installed package; 2752 features of seven layers."""
    return PooledSqueezeNet(path)
