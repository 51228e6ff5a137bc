"""A small network of clips whose features see the direction of time.

Kernels over space and time are separate ("A Closer Look at Spatiotemporal Convolutions for Action Recognition", 2018,
R(2+1)D). It was trained by `scripts/dev/train_clip_probe.py` to tell of clips of games which game is played, and
whether the clip runs forward or backward: features of single frames, and of differences between neighbors, cannot tell
the latter, and call reversed clips perfect. Its weights come with arzoo.

Shapes: B clips, T frames, D features, G games.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256
from arzoo.base.registry import register
from arzoo.base.weights import from_storage
from arzoo.models.vision.features import DEFAULT_OF_CLIPS, FeatureNet, Features

SIDE = 64
WIDTHS = (24, 32, 64, 96)
LEARNED, LEVELS = WIDTHS[-1] + 3 * WIDTHS[1], 2 * WIDTHS[1]
FEATURES = LEARNED + LEVELS
WEIGHTS = Path(str(files("arzoo"))) / "pretrained" / DEFAULT_OF_CLIPS / "model.safetensors"


class ClipNetwork(nn.Module):
    """Two layers that look at frames, three that look at space and time, and a classifier of games and directions.

    A part of the features change their sign when a clip is reversed: means of how the maps of frames change, and of the
    product of that with their slopes to the right and downward, which tells where things move. The classifier does not
    read the last 64 features, means of the maps of frames and of how much they change, which see noise.

    Args:
        games: Number G of games.
    """

    def __init__(self, games: int) -> None:
        super().__init__()
        first, second, third, last = WIDTHS
        self.look = nn.Sequential(*_over_space(3, first, 4, 4), *_over_space(first, second, 3, 1))
        self.blocks = nn.Sequential(
            *_over_time(second, 1),
            *_over_space(second, third, 3, 2), *_over_time(third, 2),
            *_over_space(third, last, 3, 2), *_over_time(last, 2),
        )  # fmt: skip
        self.scale = nn.BatchNorm1d(LEARNED, affine=False)
        self.level = nn.BatchNorm1d(LEVELS, affine=False, momentum=None)
        self.classifier = nn.Linear(LEARNED, 2 * games)

    def features(self, x: Tensor) -> Tensor:
        """Compute the features (B, D) of clips (B, 3, T, 64, 64) in [-1, 1].

        They have about variance 1 among clips of games. Their inverse hyperbolic sine is taken: with a few values of 10
        and more, a kernel distance of some hundred clips would be that of these clips.
        """
        frames = self.look(x)
        change = frames[:, :, 1:] - frames[:, :, :-1]
        levels = torch.cat([frames.mean((2, 3, 4)), change.abs().mean((2, 3, 4))], 1)
        return torch.cat([self._learned(frames), self.level(levels)], 1).asinh()

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (B, G, 2) of each game played forward and backward."""
        return self.classifier(self._learned(self.look(x))).unflatten(1, (-1, 2))  # type: ignore[no-any-return]

    def _learned(self, frames: Tensor) -> Tensor:
        return self.scale(torch.cat([self.blocks(frames).mean((2, 3, 4)), motion(frames)], 1))  # type: ignore[no-any-return]


def motion(maps: Tensor) -> Tensor:
    """Compute means (B, 3 C) of the changes of maps (B, C, T, h, w) in time, and of changes times slopes.

    Played backward, a clip has the negative numbers.
    """
    change, mean = maps[:, :, 1:] - maps[:, :, :-1], (maps[:, :, 1:] + maps[:, :, :-1]) / 2
    right = (mean[..., 2:] - mean[..., :-2]) * change[..., 1:-1]
    down = (mean[..., 2:, :] - mean[..., :-2, :]) * change[..., 1:-1, :]
    return torch.cat([part.mean((2, 3, 4)) for part in (change, right, down)], 1)


def _over_space(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    shape, steps, padding = (
        (1, kernel, kernel),
        (1, stride, stride),
        (0, (kernel - 1) // 2, (kernel - 1) // 2),
    )
    if kernel == stride:
        padding = (0, 0, 0)
    return _layer(nn.Conv3d(inputs, outputs, shape, steps, padding, bias=False))


def _over_time(width: int, stride: int) -> list[nn.Module]:
    return _layer(nn.Conv3d(width, width, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False))


def _layer(conv: nn.Conv3d) -> list[nn.Module]:
    return [conv, nn.BatchNorm3d(conv.out_channels), nn.ReLU(inplace=True)]


class ClipProbe(FeatureNet):
    """Features of `ClipNetwork`.

    Raises:
        ArzooError: The file contains other weights.
    """

    name = DEFAULT_OF_CLIPS
    of_clips = True
    least_frames = 2
    groups = (4, 16)
    resize = f"{SIDE}x{SIDE} bilinear antialias, squashed"
    scaling = "x / 127.5 - 1"
    width = FEATURES

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        file = Path(path) if path else WEIGHTS
        self.net = read_network(file).to(memory_format=torch.channels_last_3d)
        self.sha256 = file_sha256(file)

    def read(self, x: Tensor) -> Features:
        """Compute the features of clips (B, 3, T, H, W) in 0..255."""
        small = F.interpolate(
            x.transpose(1, 2).flatten(0, 1),
            (SIDE, SIDE),
            mode="bilinear",
            antialias=True,
            align_corners=False,
        )
        small = small.unflatten(0, (len(x), -1)).transpose(1, 2)
        return Features(self.net.features(small / 127.5 - 1))  # type: ignore[operator]


@register("feature_net", DEFAULT_OF_CLIPS)
def clip_probe(path: str | None = None) -> FeatureNet:
    """A (2+1)D network of clips that knows games and the direction of time; 256 features, weights in arzoo."""
    return ClipProbe(path)


def read_network(file: Path) -> ClipNetwork:
    """Build the network with the weights of a file that `scripts/dev/train_clip_probe.py` wrote.

    Raises:
        ArzooError: The file contains other weights.
    """
    try:
        state = from_storage(load_file(file), file)
        net = ClipNetwork(len(state["classifier.bias"]) // 2)
        net.load_state_dict({name: value.float() for name, value in state.items()})
    except Exception as error:  # the reader raises errors of many kinds for damaged files
        raise ArzooError(f"{file} does not hold the weights of {DEFAULT_OF_CLIPS}: {error}") from error
    return net.eval()
