"""Volumes of voxels, with the cells that they show."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError, require
from arzoo.core.volumes import Size


def refuse_beyond(name: str, whole: Size, start: Size, sides: Size) -> None:
    """Refuse a part that is not inside a volume.

    Args:
        name: What the volume is called.
        whole: Its sides.
        start: First voxel of the part.
        sides: Sides of the part.

    Raises:
        ArzooError: It begins before, ends behind, or is empty.
    """
    if any(a < 0 or n < 1 or a + n > side for a, n, side in zip(start, sides, whole, strict=True)):
        raise ArzooError(f"{name}: a part of {sides} at {start} is not inside a volume of {whole}")


class VoxelSource(Protocol):
    """Voxels that are read part by part, as a volume in a file may be larger than memory.

    Attributes:
        name: What it is called.
        voxel_size: Sides of a voxel along z, y and x in nanometers, None if nobody knows them.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def voxel_size(self) -> tuple[float, float, float] | None: ...  # noqa: D102

    @property
    def sides(self) -> Size:
        """(Z, Y, X)."""

    @property
    def sha256(self) -> str:
        """Hash of its content."""

    def read(self, start: Size, sides: Size) -> Tensor:
        """Return a part, (Z, Y, X) uint8.

        Raises:
            ArzooError: The part is not inside the volume.
        """


@dataclass(frozen=True)
class Volume:
    """A volume of electron microscopy.

    Attributes:
        name: What it is called.
        voxels: (Z, Y, X) uint8.
        labels: (Z, Y, X) int64 number of the cell of each voxel, 0 for none; None if nobody knows them.
        voxel_size: Sides of a voxel along z, y and x in nanometers, None if nobody knows them. Slices are thicker than
            pixels are wide.
    """

    name: str
    voxels: Tensor
    labels: Tensor | None
    voxel_size: tuple[float, float, float] | None

    def __post_init__(self) -> None:
        if self.voxels.dim() != 3 or self.voxels.dtype != torch.uint8:
            raise ArzooError(
                f"{self.name}: voxels are (Z, Y, X) uint8, got {tuple(self.voxels.shape)} {self.voxels.dtype}"
            )
        if self.labels is not None and self.labels.shape != self.voxels.shape:
            raise ArzooError(
                f"{self.name}: labels {tuple(self.labels.shape)} and voxels {tuple(self.voxels.shape)} differ in shape"
            )

    @property
    def sides(self) -> Size:
        """(Z, Y, X)."""
        z, y, x = self.voxels.shape
        return z, y, x

    @cached_property
    def sha256(self) -> str:
        """Hash of voxels and labels."""
        digest = hashlib.sha256(self.voxels.contiguous().numpy().data)
        if self.labels is not None:
            digest.update(self.labels.contiguous().numpy().data)
        return digest.hexdigest()

    def crop(self, start: Size, sides: Size) -> Volume:
        """Return a part of the volume; labels keep their numbers.

        Raises:
            ArzooError: The part is not inside the volume.
        """
        refuse_beyond(self.name, self.sides, start, sides)
        part = tuple(slice(a, a + n) for a, n in zip(start, sides, strict=True))
        return replace(
            self, voxels=self.voxels[part], labels=None if self.labels is None else self.labels[part]
        )

    def read(self, start: Size, sides: Size) -> Tensor:
        """Return the voxels of a part, see `crop`."""
        return self.crop(start, sides).voxels


def connected(labels_ZYX: Tensor) -> Tensor:
    """Number the connected pieces of equal labels from 1 on, in the order of their first voxels; 0 stays 0.

    Voxels are neighbors if they share a face.

    Args:
        labels_ZYX: int64.

    Raises:
        MissingPackage: The extra `em` is not installed.
    """
    measure = require("skimage.measure", "em")
    return torch.from_numpy(measure.label(labels_ZYX.numpy(), background=0, connectivity=1)).long()
