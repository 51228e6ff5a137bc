"""The Inception-v3 network of the FID convention, with TensorFlow's weights of 2015-12-05.

"Rethinking the Inception Architecture for Computer Vision", 2015; "GANs Trained by a Two Time-Scale Update Rule", 2017.
The published port is a state dictionary with torchvision's names for 1008 classes. The graph differs from torchvision's
in its pools: averages exclude padding, and the pool of the last block is a maximum. It resizes as TensorFlow 1 does;
tools that resize differently have a network of their own here, because their scores are not comparable.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import inception_v3 as torchvision_inception

from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256
from arzoo.base.registry import register
from arzoo.models.vision.features import FeatureNet, Features, read_pickle
from arzoo.models.vision.resize import resize_clean, resize_half_pixel, resize_tf1

PUBLISHED = "6726825d"
"""First digits of the SHA-256 of the published weights."""
FILES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")
_AVERAGED = ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7b")
_SIDE, _SPATIAL_CHANNELS = 299, 7


class Inception(FeatureNet):
    """Pooled features, logits without bias, and the spatial features of sFID.

    The spatial features are the first 7 channels of a 17 x 17 map, flattened row by row with channels last
    ("Generating Images with Sparse Representations", 2021).

    Raises:
        ArzooError: The weights are not on this machine, or do not fit.
    """

    name = "inception_v3"
    resize = "299x299 bilinear as in TensorFlow 1"
    scaling = "(x - 128) / 128"
    width = 2048
    spatial_width = 17 * 17 * _SPATIAL_CHANNELS

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        file = Path(path) if path else _find(self.name)
        self.sha256 = file_sha256(file)
        self.standard = self.sha256.startswith(PUBLISHED)
        net = torchvision_inception(
            weights=None, num_classes=1008, aux_logits=False, transform_input=False, init_weights=False
        )
        try:
            net.load_state_dict(read_pickle(file))
        except RuntimeError as error:
            raise ArzooError(f"{file} does not hold the Inception network of FID: {error}") from error
        for name in _AVERAGED:
            _pool_by(getattr(net, name), partial(F.avg_pool2d, count_include_pad=False))
        _pool_by(net.Mixed_7c, F.max_pool2d)
        net.fc = nn.Identity()
        self.net = net.eval()
        self.register_buffer("classifier", read_pickle(file)["fc.weight"])
        self._spatial: list[Tensor] = []
        net.Mixed_6d.branch1x1.register_forward_hook(lambda module, x, y: self._spatial.append(y))

    def inputs(self, x: Tensor) -> Tensor:
        """Resize and scale pictures (B, 3, H, W) in 0..255 to the input of the network."""
        return (resize_tf1(x, _SIDE, _SIDE) - 128) / 128

    def read(self, x: Tensor) -> Features:
        """Compute the features of pictures (B, 3, H, W) in 0..255."""
        self._spatial.clear()
        pooled = self.net(self.inputs(x))
        spatial = self._spatial.pop()[:, :_SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
        return Features(pooled, pooled @ self.get_buffer("classifier").T, spatial)


class HalfPixelInception(Inception):
    """The same network with the input of pytorch-fid, which is clean-fid's `legacy_pytorch`."""

    name = "inception_v3_half_pixel"
    resize = "299x299 bilinear, half-pixel centres, no antialias"
    scaling = "2 (x / 255) - 1"

    def inputs(self, x: Tensor) -> Tensor:
        """Resize and scale pictures (B, 3, H, W) in 0..255 to the input of the network."""
        return 2 * resize_half_pixel(x / 255, _SIDE, _SIDE) - 1


class CleanInception(Inception):
    """The same network with the input of clean-fid's `clean`."""

    name = "inception_v3_clean"
    resize = "299x299 bicubic of PIL, each channel in floats, clipped"

    def inputs(self, x: Tensor) -> Tensor:
        """Resize and scale pictures (B, 3, H, W) in 0..255 to the input of the network."""
        return (resize_clean(x, _SIDE, _SIDE) - 128) / 128


@register("feature_net")
def inception_v3(path: str | None = None) -> FeatureNet:
    """The Inception network of FID; needs a local copy of its published weights."""
    return Inception(path)


@register("feature_net")
def inception_v3_half_pixel(path: str | None = None) -> FeatureNet:
    """The Inception network of FID, with pictures resized as in pytorch-fid."""
    return HalfPixelInception(path)


@register("feature_net")
def inception_v3_clean(path: str | None = None) -> FeatureNet:
    """The Inception network of FID, with pictures resized as in clean-fid."""
    return CleanInception(path)


def _pool_by(block: nn.Module, pool: Callable[..., Tensor]) -> None:
    """Replace the pool in the pool branch of a block; torchvision calls it as a function, so hooks are needed."""
    inputs: list[Tensor] = []

    def store_input(module: nn.Module, args: tuple[Tensor]) -> None:
        inputs.append(args[0])

    def replace_input(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (pool(inputs.pop(), kernel_size=3, stride=1, padding=1),)

    block.register_forward_pre_hook(store_input)
    block.branch_pool.register_forward_pre_hook(replace_input)  # type: ignore[union-attr]


def _find(name: str) -> Path:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for file in FILES:
        if (folder / file).exists():
            return folder / file
    raise ArzooError(
        f"the weights of {name} are not on this machine. Put {FILES[0]} into {folder}, or give the file: "
        f"--net {name}=FILE. Without it, the default network effnet_lite0 works offline; its scores are not FID."
    )
