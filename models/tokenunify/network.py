"""SegMamba, as TokenUnify has it ("EMmamba"): an encoder of convolutions and Mamba layers, and a U-shaped decoder.

"TokenUnify: Scaling Up Autoregressive Pretraining for Neuron Segmentation", 2025; "SegMamba: Long-range Sequential
Modeling Mamba For 3D Medical Image Segmentation", 2024; the decoder is that of "UNETR", 2021. Decisions, all from the
published code:

* the network sees a whole volume at once. Norms of stages are instance norms without weights, over all its voxels, also
  in evaluation, so a prediction depends on the whole window;
* kernels are flat (depth 1), but every stage halves all three axes: the first convolution and those between stages drop
  every second slice, and slices 0, 2, 4, ... remain;
* Mamba layers have no residual; the output of a stage goes on without a norm, its side output to the decoder has one;
* the decoder concatenates (upsampled, skipped), and the network ends in a sigmoid.

Shapes: B samples, C channels, Z Y X sides of the volume.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.config import Config, refuse_outside
from arzoo.base.errors import ArzooError
from arzoo.core.volumes import Size, in_words
from arzoo.models.tokenunify.layers import MambaLayer, refuse_uneven


@dataclass(frozen=True, kw_only=True)
class ResamplerConfig(Config):
    """Sizes of a `Resampler`.

    Attributes:
        crop: Volumes that it is made for.
        patch: Voxels of a token.
        width: Channels of its convolutions.
    """

    crop: Size = (16, 160, 160)
    patch: Size = (4, 16, 16)
    width: int = 12

    def __post_init__(self) -> None:
        refuse_outside(self, "resampler.", dict.fromkeys(("crop", "patch", "width"), (1, math.inf)))

    def build(self) -> Resampler:
        """Build the network."""
        return Resampler(self)


@dataclass(frozen=True, kw_only=True)
class SegMambaConfig(Config):
    """Sizes of a `SegMamba`.

    Attributes:
        widths: Channels of each stage of the encoder.
        depths: Mamba layers of each stage.
        hidden: Channels of the deepest level of the decoder.
        kernel: Kernel of the decoder's convolutions, odd.
        in_channels: Channels of the volume.
        out_channels: Channels of the output: affinities along z, y and x, or voxels themselves in pre-training.
        state_size: Numbers per channel of the states of the Mamba layers.
        expand: Their inner channels over their width.
        taps: Voxels of their convolutions.
        slices: Parts of their scans across slices; must divide the voxels of every stage.
        resampler: The head that predicts the next token, None without one.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    hidden: int = 512
    kernel: Size = (1, 5, 5)
    in_channels: int = 1
    out_channels: int = 3
    state_size: int = 16
    expand: int = 2
    taps: int = 4
    slices: int = 5
    resampler: ResamplerConfig | None = None

    def __post_init__(self) -> None:
        names = (
            "widths",
            "depths",
            "hidden",
            "kernel",
            "in_channels",
            "out_channels",
            "state_size",
            "expand",
        )
        refuse_outside(self, "", dict.fromkeys((*names, "taps", "slices"), (1, math.inf)))
        if not self.widths or len(self.widths) != len(self.depths):
            raise ArzooError(
                f"widths and depths must have a number for each stage, got {self.widths} and {self.depths}"
            )
        if not all(side % 2 for side in self.kernel):
            raise ArzooError(f"kernel must be odd along every axis, got {self.kernel}")
        if self.resampler is not None and self.out_channels != 1:
            raise ArzooError(
                f"the resampler reads volumes of 1 channel, out_channels is {self.out_channels}: set it to 1, or "
                "resampler to null"
            )

    @property
    def reduction(self) -> int:
        """Voxels along each axis for one of the last stage."""
        return 2 ** len(self.widths)

    def build(self) -> SegMamba:
        """Build the network."""
        return SegMamba(self)


class LocalBlock(nn.Module):
    """Convolutions over neighbors before the Mamba layers of a stage (SegMamba's GSC, here without its gate)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near1, self.near2 = (nn.Conv3d(width, width, 3, padding=1) for _ in range(2))
        self.point, self.output = (nn.Conv3d(width, width, 1) for _ in range(2))

    def forward(self, x_BCZYX: Tensor) -> Tensor:
        """Apply the block."""
        near = _normed_relu(self.near2(_normed_relu(self.near1(x_BCZYX))))
        return _normed_relu(self.output(near + _normed_relu(self.point(x_BCZYX)))) + x_BCZYX


class SideOutput(nn.Module):
    """The output of a stage to the decoder: a norm and two layers at each voxel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv3d(width, 2 * width, 1), nn.Conv3d(2 * width, width, 1)

    def forward(self, x_BCZYX: Tensor) -> Tensor:
        """Apply the layers."""
        return self.fc2(F.gelu(self.fc1(F.instance_norm(x_BCZYX))))


class Stage(nn.Module):
    """A stage of the encoder, which halves every axis.

    Args:
        config: Sizes.
        number: Number of the stage, from 0.
    """

    def __init__(self, config: SegMambaConfig, number: int) -> None:
        super().__init__()
        width, self.first = config.widths[number], number == 0
        source, side = (config.in_channels, 7) if self.first else (config.widths[number - 1], 2)
        padding = (0, 3, 3) if self.first else (0, 0, 0)
        self.down = nn.Conv3d(source, width, (1, side, side), stride=2, padding=padding)
        self.local = LocalBlock(width)
        self.layers = nn.ModuleList(
            MambaLayer(width, config.state_size, config.expand, config.taps, slices=config.slices)
            for _ in range(config.depths[number])
        )
        self.side = SideOutput(width)

    def forward(self, x_BCZYX: Tensor) -> tuple[Tensor, Tensor]:
        """Return the input of the next stage, and the side output."""
        x = self.local(self.down(x_BCZYX if self.first else F.instance_norm(x_BCZYX)))
        for layer in self.layers:
            x = layer(x)
        return x, self.side(x)


class ResidualBlock(nn.Module):
    """Two convolutions with instance norms, and a residual, which is projected where the channels differ."""

    def __init__(self, source: int, width: int, kernel: Size) -> None:
        super().__init__()
        padding = tuple(side // 2 for side in kernel)
        self.conv1, self.conv2 = (
            nn.Conv3d(channels, width, kernel, padding=padding, bias=False) for channels in (source, width)
        )
        self.skip = nn.Conv3d(source, width, 1, bias=False) if source != width else None

    def forward(self, x_BCZYX: Tensor) -> Tensor:
        """Apply the block."""
        y = F.leaky_relu(F.instance_norm(self.conv1(x_BCZYX)), 0.01)
        y = F.instance_norm(self.conv2(y))
        residual = x_BCZYX if self.skip is None else F.instance_norm(self.skip(x_BCZYX))
        return F.leaky_relu(y + residual, 0.01)


class UpBlock(nn.Module):
    """A level of the decoder: doubles every axis and joins the skipped features."""

    def __init__(self, source: int, width: int, kernel: Size) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(source, width, 2, stride=2, bias=False)
        self.block = ResidualBlock(2 * width, width, kernel)

    def forward(self, x_BCZYX: Tensor, skipped: Tensor) -> Tensor:
        """Apply the level to features and those skipped, of twice their sides."""
        return self.block(torch.cat([self.up(x_BCZYX), skipped], 1))


class Resampler(nn.Module):
    """Prediction of the next token from the logits of a whole volume (the published `preciever`)."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.config = config
        widths, sides = (1, config.width, config.width, 1), config.crop
        self.convolutions = nn.ModuleList(
            nn.Conv3d(source, width, 3, stride=2, padding=1) for source, width in pairwise(widths)
        )
        for _ in self.convolutions:
            sides = tuple((side + 1) // 2 for side in sides)
        self.output = nn.Linear(math.prod(sides), math.prod(config.patch))

    def forward(self, logits_B1ZYX: Tensor) -> Tensor:
        """Return voxels in [0, 1] (B, 1, z, y, x) of the token.

        Raises:
            ArzooError: The volume has other sides than the network is made for.
        """
        if tuple(logits_B1ZYX.shape[2:]) != self.config.crop:
            raise ArzooError(
                f"the head of the next token is made for volumes of {in_words(self.config.crop)} voxels, got "
                f"{in_words(logits_B1ZYX.shape[2:])}"
            )
        first, second, last = self.convolutions
        x = last(F.relu(second(F.relu(first(logits_B1ZYX)))))
        return self.output(x.flatten(1)).unflatten(1, (1, *self.config.patch)).sigmoid()


class SegMamba(nn.Module):
    """Encoder and decoder over volumes.

    Attributes:
        config: Its sizes.
    """

    def __init__(self, config: SegMambaConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.stages = nn.ModuleList(Stage(config, i) for i in range(len(widths)))
        levels = (*widths, config.hidden)
        self.skips = nn.ModuleList(
            ResidualBlock(source, width, config.kernel)
            for source, width in zip((config.in_channels, *widths), levels, strict=True)
        )
        self.ups = nn.ModuleList(
            UpBlock(source, width, config.kernel)
            for source, width in zip(levels[:0:-1], levels[-2::-1], strict=True)
        )
        self.last = ResidualBlock(widths[0], widths[0], config.kernel)
        self.out = nn.Conv3d(widths[0], config.out_channels, 1)
        self.resampler = None if config.resampler is None else config.resampler.build()

    def side_outputs(self, volume_BCZYX: Tensor) -> list[Tensor]:
        """Return the side output of each stage, of half the sides of the one before.

        Raises:
            ArzooError: The volume has other channels, or sides that the stages cannot halve or scan.
        """
        self._require(volume_BCZYX)
        x, outs = volume_BCZYX, []
        for stage in self.stages:
            x, side = stage(x)
            outs.append(side)
        return outs

    def logits(self, volume_BCZYX: Tensor) -> Tensor:
        """Return the output (B, out_channels, Z, Y, X) before its sigmoid; errors as those of `side_outputs`."""
        return self.decode(volume_BCZYX, self.side_outputs(volume_BCZYX))

    def decode(self, volume_BCZYX: Tensor, side_outputs: list[Tensor]) -> Tensor:
        """Return what `logits` does, from the side outputs of the volume."""
        levels = [volume_BCZYX, *side_outputs]
        *skipped, x = (skip(level) for skip, level in zip(self.skips, levels, strict=True))
        for up, other in zip(self.ups, reversed(skipped), strict=True):
            x = up(x, other)
        return self.out(self.last(x))

    def forward(self, volume_BCZYX: Tensor) -> Tensor:
        """Return affinities or voxels in [0, 1], (B, out_channels, Z, Y, X); errors as those of `side_outputs`.

        Args:
            volume_BCZYX: Volume with values in [0, 1].
        """
        return self.logits(volume_BCZYX).sigmoid()

    def _require(self, volume_BCZYX: Tensor) -> None:
        config, shape = self.config, tuple(volume_BCZYX.shape)
        if len(shape) != 5 or shape[1] != config.in_channels:
            raise ArzooError(f"a volume is (samples, {config.in_channels}, z, y, x), got {shape}")
        sides, reduction = shape[2:], config.reduction
        if any(side % reduction or not side for side in sides):
            raise ArzooError(
                f"the network halves every axis {len(config.widths)} times: sides must be multiples of {reduction}, "
                f"got {in_words(sides)}; pad the volume, or read it in windows, such as 16 x 160 x 160"
            )
        voxels = math.prod(side // reduction for side in sides)
        # The stages before have a multiple of these.
        refuse_uneven(voxels, config.slices)
        if voxels == 1:
            raise ArzooError(
                f"a volume of {in_words(sides)} voxels is too small: the last stage norms over one voxel"
            )


def _normed_relu(x_BCZYX: Tensor) -> Tensor:
    """Instance norm and ReLU."""
    return F.relu(F.instance_norm(x_BCZYX))
