"""I3D, the network of the Frechet video distance: Inception-v1 inflated to clips, 400 classes of Kinetics.

"Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", 2017; "Towards Accurate Generative Models of
Video: A New Metric & Challenges", 2018. Features are the 400 logits, averaged over time. Two published files have the
weights: a TorchScript program (StyleGAN-V), which is run only if it is that very file, and a state dictionary
(VideoGPT, TATS, cd-fvd), read into the network below. Padding is TensorFlow's "same": as much as the stride needs, the
odd one after.

Shapes: B clips, T frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256
from arzoo.base.registry import register
from arzoo.models.vision.features import FeatureNet, Features, read_pickle
from arzoo.models.vision.resize import resize_cropped, resize_half_pixel

PUBLISHED_SCRIPT = "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2"
"""SHA-256 of the published TorchScript program. No hash of the state dictionary is published."""
FILES = ("i3d_torchscript.pt", "i3d_pretrained_400.pt")
_SIDE, _CLASSES = 224, 400
_LEAST = 9
"""Fewest frames: the last pool takes two steps of eight frames each."""
_MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""Channels of the branches of each block: 1x1; 1x1 and 3x3; 1x1 and 3x3; 1x1 after the pool."""
_POOLS = {
    "Conv3d_1a_7x7": ((1, 3, 3), (1, 2, 2)),
    "Conv3d_2c_3x3": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3c": ((3, 3, 3), (2, 2, 2)),
    "Mixed_4f": ((2, 2, 2), (2, 2, 2)),
}
"""Kernel and stride of the pools, by the layer before them."""


def pad_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Pad the last three axes of (B, C, T, H, W) with zeros as TensorFlow's "same" does."""
    sides: list[int] = []
    for length, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        total = max((-(-length // s) - 1) * s + k - length, 0)
        sides = [total // 2, total - total // 2, *sides]  # the last axis comes first
    return F.pad(x, sides)


class Unit(nn.Module):
    """Convolution, normalization and ReLU.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        kernel: Side of the kernel on all axes.
        stride: Stride on all axes.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer."""
        return F.relu(self.bn(self.conv3d(pad_same(x, self.conv3d.kernel_size, self.conv3d.stride))))


class Mixed(nn.Module):
    """The four branches of an Inception block side by side."""

    def __init__(self, inputs: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        one, low, high, low2, high2, pooled = channels
        self.b0 = Unit(inputs, one, 1)
        self.b1a, self.b1b = Unit(inputs, low, 1), Unit(low, high, 3)
        self.b2a, self.b2b = Unit(inputs, low2, 1), Unit(low2, high2, 3)
        self.b3b = Unit(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block."""
        pooled = max_pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], 1)


class Logits(nn.Module):
    """The classifier, a convolution of one pixel with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(1024, _CLASSES, 1)


class I3DNetwork(nn.Module):
    """I3D of colors with the names of the published state dictionary: 344 tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        inputs = 192
        for name, channels in _MIXED.items():
            self.add_module(name, Mixed(inputs, channels))
            inputs = channels[0] + channels[2] + channels[4] + channels[5]
        self.logits = Logits()

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits (B, 400) of clips (B, 3, T, 224, 224) in [-1, 1]."""
        for name in ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3", *_MIXED):
            x = self.get_submodule(name)(x)
            if name in _POOLS:
                x = max_pool(x, *_POOLS[name])
        logits: Tensor = self.logits.conv3d(F.avg_pool3d(x, (2, 7, 7), 1))
        return logits.mean((2, 3, 4))


def max_pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """Pool clips with values of at least 0, of which padding with zeros never is the maximum."""
    return F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)


class I3D(FeatureNet):
    """Logits of I3D, of clips squashed to 224 x 224.

    Args:
        path: One of the two published files; by default in the folder of torch's hub.

    Raises:
        ArzooError: The weights are not on this machine, are a program of unknown origin, or do not fit.
    """

    name = "i3d"
    of_clips = True
    least_frames = _LEAST
    groups = (2, 8)
    resize = "224x224 bilinear, half-pixel centres, no antialias, squashed"
    scaling = "2 (x / 255) - 1"
    width = _CLASSES

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        file = Path(path) if path else _find(self.name)
        self.sha256 = file_sha256(file)
        self.standard = self.sha256 == PUBLISHED_SCRIPT
        self.net = _program(file) if self.standard else read_i3d(file)
        self.net.eval()

    def resized(self, frames: Tensor) -> Tensor:
        """Resize frames (B, 3, H, W) to 224 x 224."""
        return resize_half_pixel(frames, _SIDE, _SIDE)

    def read(self, x: Tensor) -> Features:
        """Compute the features of clips (B, 3, T, H, W) in 0..255."""
        frames = self.resized(x.transpose(1, 2).flatten(0, 1))
        clips = 2 * (frames / 255) - 1
        clips = clips.unflatten(0, (len(x), -1)).transpose(1, 2).contiguous()
        if self.standard:
            return Features(self.net(clips, rescale=False, resize=False, return_features=True))
        return Features(self.net(clips))


class CroppedI3D(I3D):
    """The same network with the short side of clips resized and their middle cropped."""

    name = "i3d_cropped"
    resize = "short side to 224 bilinear, half-pixel centres, no antialias, middle cropped"

    def resized(self, frames: Tensor) -> Tensor:
        """Resize frames (B, 3, H, W) to 224 x 224."""
        return resize_cropped(frames, _SIDE)


@register("feature_net")
def i3d(path: str | None = None) -> FeatureNet:
    """The I3D network of FVD; needs a local copy of its published weights."""
    return I3D(path)


@register("feature_net")
def i3d_cropped(path: str | None = None) -> FeatureNet:
    """The I3D network of FVD, with clips cropped rather than squashed."""
    return CroppedI3D(path)


def read_i3d(file: Path) -> I3DNetwork:
    """Read the published state dictionary.

    Raises:
        ArzooError: The file holds something else, such as a program.
    """
    if _is_program(file):
        raise ArzooError(
            f"{file} is a TorchScript program, and not the published one, whose sha256 is {PUBLISHED_SCRIPT[:12]}..., "
            f"and programs of unknown origin are not run. Download {FILES[0]} again, or give {FILES[1]}"
        )
    net = I3DNetwork()
    try:
        net.load_state_dict(read_pickle(file))
    except RuntimeError as error:
        raise ArzooError(f"{file} does not hold the I3D network of FVD: {error}") from error
    return net


def _program(file: Path) -> nn.Module:
    """Load the published program; torch has announced the end of such programs, not when."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        program: nn.Module = torch.jit.load(file, "cpu")
    return program


def _is_program(file: Path) -> bool:
    """Return whether a file is an archive with code, which a state dictionary has not."""
    try:
        with ZipFile(file) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (BadZipFile, OSError):
        return False


def _find(name: str) -> Path:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for file in FILES:
        if (folder / file).exists():
            return folder / file
    raise ArzooError(
        f"the weights of {name} are not on this machine. Put {FILES[0]} or {FILES[1]} into {folder}, or give the file: "
        f"--net {name}=FILE. Without it, the default network clip_probe works offline; its scores are not FVD."
    )
