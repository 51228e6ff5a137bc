"""A trained network of affinities with what its checkpoint says of the volumes that it reads."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.volumes import Size, in_words
from arzoo.data.volume import VoxelSource
from arzoo.models.tokenunify.affinities import NEAREST
from arzoo.models.tokenunify.network import SegMamba
from arzoo.segmentation.windows import OVERLAP, slabs, whole

PUBLISHED_WINDOW: Size = (16, 160, 160)
"""Windows of published networks, whose files do not say it."""
UNLIKE = 1.5
"""Ratio of sides of voxels from which two volumes are said to differ in resolution."""


class UnlikeVoxels(UserWarning):
    """Voxels are not of the size that a network was trained on, or nobody says which size they have."""


@dataclass(frozen=True)
class Segmenter:
    """A network of affinities.

    Attributes:
        network: The network, in evaluation mode.
        window: Sides of the windows it was trained on, and is read in: its norms are over whole windows.
        voxel_size: Sides of the voxels it was trained on along z, y and x in nanometers, None if nobody knows them.
        name: Name of the checkpoint.
        weights: Hash of the weights.
    """

    network: SegMamba
    window: Size
    voxel_size: tuple[float, float, float] | None
    name: str = ""
    weights: str = ""

    @staticmethod
    def load(name: str | Path) -> Segmenter:
        """Load a checkpoint.

        Raises:
            UsageError: It is no segmenter.
            ArzooError: It is damaged, or makes something else than the three affinities to the nearest neighbors.
        """
        checkpoint = open_checkpoint(name, "segmenter")
        network: Any = checkpoint.load("segmenter")
        channels = network.config.out_channels
        if channels != len(NEAREST):
            raise ArzooError(
                f"{name} makes {channels} channels of a volume, not affinities along z, y and x: it is pre-trained "
                f"only. Train it to segment first: arzoo train segmamba_em init={name}"
            )
        volumes = checkpoint.index.get("volumes") or {}
        window = tuple(volumes.get("window") or PUBLISHED_WINDOW)
        size = volumes.get("voxel_size")
        weights = str(checkpoint.parts["segmenter"]["weights"])
        return Segmenter(network, window, tuple(size) if size else None, Path(name).name, weights)

    def affinities(
        self,
        source: VoxelSource,
        overlap: float = OVERLAP,
        batch: int = 1,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> Tensor:
        """Return affinities (3, Z, Y, X) of a volume along z, y and x, in [0, 1]; arguments as those of `slabs`.

        Warns:
            UnlikeVoxels: Voxels are of another size than in training, or of an unknown one.
        """
        self._compare(source)

        @torch.inference_mode()
        def predict(voxels_B1ZYX: Tensor) -> Tensor:
            device = next(self.network.parameters()).device
            made: Tensor = self.network(voxels_B1ZYX.to(device))
            return made.cpu()

        return whole(slabs(predict, source, self.window, overlap, batch, report), source.sides)

    def _compare(self, source: VoxelSource) -> None:
        """Warn if the voxels are unlike those of training."""
        if self.voxel_size is None:
            return
        trained = (
            f"{self.name or 'the network'} was trained on voxels of {in_words(self.voxel_size)} nm (z, y, x)"
        )
        if source.voxel_size is None:
            warnings.warn(
                f"{trained}, and {source.name} does not say how large its voxels are: they are taken for as large. "
                "Say it with --voxel-size (in Python: voxel_size=)",
                UnlikeVoxels,
                stacklevel=3,
            )
            return
        ratios = [a / b for a, b in zip(source.voxel_size, self.voxel_size, strict=True)]
        if any(not 1 / UNLIKE < ratio < UNLIKE for ratio in ratios):
            warnings.warn(
                f"{trained}, those of {source.name} are {in_words(source.voxel_size)} nm: cells will look unlike "
                "any it has seen. Resample the volume first",
                UnlikeVoxels,
                stacklevel=3,
            )
