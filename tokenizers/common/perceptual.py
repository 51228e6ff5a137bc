"""Perceptual distance through a fixed feature network.

"The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018, section 3: features of several
layers, unit-normalised over channels, squared difference, mean over positions, sum over layers. Networks whose
weights come inside packages are used uncalibrated; "vgg" is the calibrated LPIPS of published tokenizers and
needs local VGG-16 weights.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from arzoo.base.errors import MissingPackage, UnknownName
from arzoo.core.clips import require_side
from arzoo.models.vision.perceptual import EfficientNetLite0, FeatureNet, SqueezeNet, Vgg16

NETS: dict[str, type[FeatureNet]] = {
    "squeezenet": SqueezeNet,
    "efficientnet_lite0": EfficientNetLite0,
    "vgg": Vgg16,
}


class PerceptualDistance(nn.Module):
    """Distance between pictures in the features of a frozen network.

    Args:
        net: A key of `NETS`, or "auto" for the first one whose weights are available locally.

    Raises:
        UnknownName: There is no such network.
        MissingPackage: The package with its weights is not installed; with "auto", the weights of no network are
            available locally.
        ArzooError: Its weights are others than those that are known.
        FileNotFoundError: The weights of "vgg" are not available locally.
    """

    def __init__(self, net: str = "auto") -> None:
        super().__init__()
        self.net = _first_available() if net == "auto" else _known(net)()
        self.net.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    @property
    def name(self) -> str:
        """Key of the network in `NETS`; distances of different networks are not comparable."""
        return next(key for key, kind in NETS.items() if type(self.net) is kind)

    def require(self, size: tuple[int, int], remedy: str) -> None:
        """Refuse pictures (height, width) that are too small for the network; the message ends with a remedy.

        Raises:
            ArzooError: A side is smaller than `net.least_side`.
        """
        require_side(size, self.net.least_side, f"the perceptual network {self.name}", remedy)

    def train(self, mode: bool = True) -> PerceptualDistance:
        """Stay in evaluation mode, because the network is frozen."""
        return super().train(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance (B,) of pictures (B, 3, H, W) in [-1, 1], see `require`. Gradients flow into x only."""
        with torch.no_grad():
            target = self._unit_features(y)
        total = x.new_zeros(len(x))
        for i, (a, b) in enumerate(zip(self._unit_features(x), target, strict=True)):
            difference = (a - b).square()
            weight = self.net.calibration(i)
            total = total + (difference.sum(1) if weight is None else (difference * weight).sum(1)).mean(
                (1, 2)
            )
        return total

    def _unit_features(self, x: Tensor) -> list[Tensor]:
        # The published epsilon is added to the norm. `vector_norm` has a finite gradient where all channels are zero.
        features = [f.float() for f in self.net.features(x)]
        return [f / (torch.linalg.vector_norm(f, dim=1, keepdim=True) + 1e-10) for f in features]


def _known(name: str) -> type[FeatureNet]:
    if name not in NETS:
        raise UnknownName("feature network", name, NETS)
    return NETS[name]


def _first_available() -> FeatureNet:
    reasons = []
    for name, kind in NETS.items():
        try:
            net = kind()
        except (MissingPackage, FileNotFoundError) as error:
            reasons.append(str(error))
            continue
        if reasons:
            warnings.warn(f"perceptual distances are those of {name}: {reasons[0]}", stacklevel=4)
        return net
    raise MissingPackage(
        "no network is there for perceptual distances. Install two with: pip install 'arzoo[drawings]'. Or do without: "
        "loss.perceptual=0 in a training, --metrics without perceptual in arzoo evaluate. What was looked for: "
        + "; ".join(reasons)
    )
