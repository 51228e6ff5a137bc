"""A small network of clips whose features see the direction of time.

Kernels over space and time are separate ("A Closer Look at Spatiotemporal Convolutions for Action Recognition", 2018,
R(2+1)D). It was trained by `scripts/dev/train_clip_probe.py` to tell of clips of games which game is played, and
whether the clip runs forward or backward: features of single frames, and of differences between neighbours, cannot tell
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
WIDTHS = (16, 32, 64, 128)
_STRIDES = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
WEIGHTS = Path(str(files("arzoo"))) / "pretrained" / DEFAULT_OF_CLIPS / "model.safetensors"


class ClipNetwork(nn.Module):
    """Four blocks, each a convolution over space and one over time, and a classifier of games and directions.

    Args:
        games: Number G of games.
    """

    def __init__(self, games: int) -> None:
        super().__init__()
        shapes = zip((3, *WIDTHS), WIDTHS, _STRIDES, strict=False)
        self.blocks = nn.Sequential(*(_block(*shape) for shape in shapes))
        self.classifier = nn.Linear(WIDTHS[-1], 2 * games)

    def features(self, x: Tensor) -> Tensor:
        """Compute the features (B, D) of clips (B, 3, T, 64, 64) in [-1, 1], means over space and time."""
        pooled: Tensor = self.blocks(x).mean((2, 3, 4))
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (B, G, 2) of each game played forward and backward."""
        return self.classifier(self.features(x)).unflatten(1, (-1, 2))  # type: ignore[no-any-return]


def _block(inputs: int, outputs: int, stride: tuple[int, int, int]) -> nn.Sequential:
    time, *space = stride
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, (1, 3, 3), (1, *space), (0, 1, 1), bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv3d(outputs, outputs, (3, 1, 1), (time, 1, 1), (1, 0, 0), bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
    )


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
    width = WIDTHS[-1]

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        file = Path(path) if path else WEIGHTS
        self.sha256 = file_sha256(file)
        self.net = read_network(file).to(memory_format=torch.channels_last_3d)

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
    """A (2+1)D network of clips that knows games and the direction of time; 128 features, weights in arzoo."""
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
