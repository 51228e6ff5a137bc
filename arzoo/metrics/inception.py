"""The Inception-v3 network of the FID convention, with TensorFlow's weights of 2015-12-05.

"Rethinking the Inception Architecture for Computer Vision", 2015; "GANs Trained by a Two Time-Scale Update Rule", 2017.
The published port is a state dictionary with torchvision's names for 1008 classes. The graph differs from torchvision's
in its pools: averages leave padding out, and the last block's is a maximum. Pictures are resized as TensorFlow 1 did:
bilinear, source = target * (in / out), without half-pixel shift or antialiasing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import inception_v3 as torchvision_inception

from arzoo.errors import ArzooError
from arzoo.metrics.features import FeatureNet, Features, read_pickle
from arzoo.registry import register
from arzoo.runtime import file_sha256

PUBLISHED = "6726825d"
"""First digits of the sha256 of the published weights."""
FILES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")
_AVERAGED = ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7b")
_SPATIAL_CHANNELS = 7


class Inception(FeatureNet):
    """Pooled features, logits without bias, and the spatial features of sFID.

    The latter are the first 7 channels of a 17 x 17 map, flattened row by row with channels last ("Generating Images
    with Sparse Representations", 2021).

    Raises:
        ArzooError: The weights are not on this machine, or do not fit.
    """

    name = "inception_v3"
    resize = "299x299 bilinear as in TensorFlow 1"
    width = 2048

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        file = Path(path) if path else _find()
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

    def read(self, x: Tensor) -> Features:
        """The network was trained on (0..255 - 128) / 128."""
        self._spatial.clear()
        pooled = self.net((resize_tf1(x, 299, 299) - 128) / 128)
        spatial = self._spatial.pop()[:, :_SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
        return Features(pooled, pooled @ self.get_buffer("classifier").T, spatial)


@register("feature_net", "inception_v3")
def inception_v3(path: str | None = None) -> FeatureNet:
    """The Inception network of FID; needs its published weights on this machine."""
    return Inception(path)


def resize_tf1(x: Tensor, height: int, width: int) -> Tensor:
    """Pictures (B, C, H, W) as TensorFlow 1 resizes them by default."""
    for dim, size in ((2, height), (3, width)):
        most = x.shape[dim] - 1
        place = torch.arange(size, device=x.device, dtype=torch.float32) * (x.shape[dim] / size)
        low = place.floor().long().clamp(max=most)
        high = (low + 1).clamp(max=most)
        share = (place - low).view([-1 if i == dim else 1 for i in range(4)])
        first = x.index_select(dim, low)
        x = first + (x.index_select(dim, high) - first) * share
    return x


def _pool_by(block: nn.Module, pool: Callable[..., Tensor]) -> None:
    """Let the pool branch of a block read another pool of the block's input than torchvision's."""
    inputs: list[Tensor] = []

    def remember(module: nn.Module, given: tuple[Tensor]) -> None:
        inputs.append(given[0])

    def exchange(module: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        return (pool(inputs.pop(), kernel_size=3, stride=1, padding=1),)

    block.register_forward_pre_hook(remember)
    block.branch_pool.register_forward_pre_hook(exchange)  # type: ignore[union-attr]


def _find() -> Path:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name in FILES:
        if (folder / name).exists():
            return folder / name
    raise ArzooError(
        f"the weights of inception_v3 are not on this machine. Put {FILES[0]} into {folder}, or give the file: "
        "--net inception_v3=FILE. Without it, the default network effnet_lite0 works offline; its scores are not FID."
    )
